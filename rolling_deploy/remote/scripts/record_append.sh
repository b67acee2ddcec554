# record_append DIR EPOCH HOLDER ROLLOUT SIZE TAIL_SHA NEW_SHA STEP LOOSE_SHA < the lines to add
#
# Adds lines to this load balancer's copy of the record, but only behind exactly the SIZE bytes
# that the sender knows, the last line of which hashes to TAIL_SHA. What a lost acknowledgement
# or a torn write left behind is recognised: it is the beginning of the very same lines. What hashes
# to LOOSE_SHA was read before and judged to be loose: half a line, or the end of a life that was
# taken over; it is kept aside.
trap '' HUP PIPE
file=$1/$4.jsonl size=$5 tail_sha=$6 new_sha=$7
take_in "$1" .append
new=$taken
[ "$(digest_of "$new")" = "$new_sha" ] || fail "the lines did not arrive whole"
enter "$1" "$2" "$3"
[ -e "$file" ] || : > "$file" || fail "cannot create $file"
have=$(wc -c < "$file")
say size "$have"
[ "$have" -ge "$size" ] || refuse "behind: this copy holds $have bytes, $size were expected"
if [ "$size" -gt 0 ]; then
    known=$(head -c "$size" "$file" | tail -n 1 | sha256sum)
    [ "${known%% *}" = "$tail_sha" ] || refuse "differs: this copy of the record goes on otherwise"
fi
if [ "$have" -gt "$size" ]; then
    more=$((have - size))
    tail -c "$more" "$file" > "$1/.extra"
    head -c "$more" "$new" > "$1/.begin"
    if [ -n "${9-}" ] && [ "$(digest_of "$1/.extra")" = "$9" ]; then
        cp "$1/.extra" "$file.loose.$2" || fail "cannot keep what is cut off"
    elif ! cmp -s "$1/.extra" "$1/.begin"; then
        rm -f "$1/.extra" "$1/.begin" "$new"
        refuse "differs: this copy of the record goes on otherwise"
    fi
    rm -f "$1/.extra" "$1/.begin"
    truncate -s "$size" "$file" || fail "cannot write $file"
fi
if ! cat "$new" >> "$file" 2>/dev/null; then
    truncate -s "$size" "$file"
    rm -f "$new"
    fail "cannot write $file (disk full?)"
fi
sync -d "$file" 2>/dev/null || sync
rm -f "$new"
# The pointer to the rollout in hand, and the step for whoever asks who is at it.
# Not named, whoever resumes elsewhere would not hear of it.
{ printf '%s\n' "$4" > "$1/.current"; } 2>/dev/null && mv -f "$1/.current" "$1/current" ||
    fail "cannot write $1/current (disk full?)"
printf '%s\n' "$8" > "$1/step"
# When these lines came, for the commands that follow them (`refuse_if_late`); by no clock that can
# be set.
{ read -r up rest < /proc/uptime && printf '%s\n' "${up%.*}" > "$1/intent"; } 2>/dev/null ||
    fail "cannot write $1/intent (disk full?)"
: > "$1/heartbeat"
say size "$(wc -c < "$file")"
finish done ''
