# record_hold DIR EPOCH HOLDER EXPIRY_S ROLLOUT DEAD < who holds it, as JSON
#
# Takes the lock beside the record: refused while somebody else's heartbeat is younger than
# EXPIRY_S by this machine's own clock, unless it is DEAD, who is known to have ended. The fence is raised in the same breath, so whoever held it
# before changes nothing here any more.
trap '' HUP PIPE
mkdir -p "$1" 2>/dev/null || refuse "cannot create the state directory $1"
if [ -e "$1/holder" ] && [ -e "$1/heartbeat" ]; then
    age=$(($(date +%s) - $(stat -c %Y "$1/heartbeat")))
    owner=$(cat "$1/held_by" 2>/dev/null)
    if [ "$age" -lt "$4" ] && [ "$owner" != "$3" ] && [ "$owner" != "$6" ]; then
        say held "$age"
        say64 holder < "$1/holder"
        say step "$(cat "$1/step" 2>/dev/null)"
        refuse "held"
    fi
fi
enter "$1" "$2" "$3"
# Asked again under the lock: of two who found it free, one comes first.
if [ -e "$1/holder" ] && [ -e "$1/heartbeat" ]; then
    age=$(($(date +%s) - $(stat -c %Y "$1/heartbeat")))
    owner=$(cat "$1/held_by" 2>/dev/null)
    if [ "$age" -lt "$4" ] && [ "$owner" != "$3" ] && [ "$owner" != "$6" ]; then
        say held "$age"
        say64 holder < "$1/holder"
        refuse "held"
    fi
fi
cat > "$1/.holder" && mv -f "$1/.holder" "$1/holder" || fail "cannot write in $1"
printf '%s\n' "$3" > "$1/held_by"
: > "$1/heartbeat"
finish done ''
