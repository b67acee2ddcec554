# with: nginx_settings nginx_processes nginx_generation
# nginx_wait LIMIT_MS: until no earlier worker is left, or the limit. Only the processes that are
# waited for are looked at in between, and the whole list once a
# second (a pid may be given to another process), so that a long wait costs this machine nothing.
limit_ms=$1
end_with_channel
now_ms
until_ms=$((rd_now + limit_ms))
while :; do
    find_snapshot "$(digest_of "$file")"
    [ -n "$snapshot" ] || finish done "unknown: no snapshot was taken for the file on disk"
    list_processes
    find_master || finish done "unknown: $master_why"
    count_workers "$snapshot"
    [ "$n_earlier" -gt 0 ] || finish done "drained"
    awaited=$(printf '%s\n' "$workers" | sed -n 's/^\([0-9]*\) .* \(unretired\|retiring\)$/\1/p')
    alive=1 turns=0
    while [ "$alive" = 1 ] && [ "$turns" -lt 20 ]; do
        turns=$((turns + 1))
        now_ms
        [ "$rd_now" -lt "$until_ms" ] || finish done "limit: $n_earlier earlier workers are left"
        pause 0.05
        alive=0
        for w_pid in $awaited; do [ ! -d "/proc/$w_pid" ] || alive=1; done
    done
done
