# with: service
# service_free: return as soon as no earlier command of ours runs on this backend, or at the limit.
named "$@"
end_with_channel
if [ -e "$state/lock" ]; then flock -s -w "$seconds" "$state/lock" true; fi
now; free_end=$((now_cs + ${seconds%.*} * 100))
until is_free; do
    now
    [ "$now_cs" -lt "$free_end" ] || { say busy 1; break; }
    sleep 0.1
done
finish done
