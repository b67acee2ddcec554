# record_watch DIR HOLDER STEP BEAT LIMIT_S: wait until the lock here is not held, or differs from
# what is known of it (BEAT empty: whatever its heart does), or to the limit; then say what it is.
# Reads only, and ends with the channel. One look a second: the wait is for minutes.
end_with_channel
dir=$1
turns=0
while :; do
    is_there=0 beat='' held_by='' step='' expiry=''
    [ ! -e "$dir/holder" ] || is_there=1
    beat=$(stat -c %Y "$dir/heartbeat" 2>/dev/null) || is_there=0
    { IFS= read -r held_by < "$dir/held_by"; } 2>/dev/null || :
    { IFS= read -r step < "$dir/step"; } 2>/dev/null || :
    { read -r expiry < "$dir/expiry"; } 2>/dev/null || :
    [ "$is_there" = 1 ] || break
    age=$(($(date +%s) - beat))
    ! is_number "$expiry" || [ "$age" -lt "$expiry" ] || break
    [ "$held_by" = "$2" ] && [ "$step" = "$3" ] || break
    [ -z "$4" ] || [ "$beat" = "$4" ] || break
    turns=$((turns + 1))
    [ "$turns" -le "$5" ] || break
    sleep 1
done
if [ "$is_there" = 1 ]; then
    say64 holder < "$dir/holder"
    say held_by "$held_by"
    say step "$step"
    say beat "$beat"
    say heartbeat_age "$age"
fi
finish done ''
