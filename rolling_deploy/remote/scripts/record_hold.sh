# record_hold DIR EPOCH HOLDER EXPIRY_S ROLLOUT DEAD < who holds it, as JSON
#
# Takes the lock beside the record: refused while somebody else's heartbeat is younger than
# EXPIRY_S by this machine's own clock, unless it is DEAD, who is known to have ended. The fence is
# raised in the same breath, so whoever held it before changes nothing here any more.
trap '' HUP PIPE

# refuse_if_held EXPIRY_S HOLDER DEAD, for the directory in place.
refuse_if_held() {
    [ -e "$place/holder" ] && [ -e "$place/heartbeat" ] || return 0
    age=$(($(date +%s) - $(stat -c %Y "$place/heartbeat")))
    owner=$(cat "$place/held_by" 2>/dev/null)
    if [ "$age" -lt "$1" ] && [ "$owner" != "$2" ] && [ "$owner" != "$3" ]; then
        say held "$age"
        say64 holder < "$place/holder"
        say step "$(cat "$place/step" 2>/dev/null)"
        refuse "held"
    fi
}

place=$1
take_in "$place" .holder
refuse_if_held "$4" "$3" "$6"
enter "$place" "$2" "$3"
# Asked again under the lock: of two who found it free, one comes first.
refuse_if_held "$4" "$3" "$6"
mv -f "$taken" "$place/holder" || fail "cannot write in $place"
printf '%s\n' "$3" > "$place/held_by"
: > "$place/heartbeat"
finish done ''
