# record_hold DIR EPOCH HOLDER EXPIRY_S ROLLOUT DEAD < who holds it, as JSON
#
# Takes the lock beside the record: refused while somebody else's heartbeat is younger than the
# expiry that they took it with, by this machine's own clock, unless it is DEAD, who is known to
# have ended. EXPIRY_S is ours from now on. The fence is raised in the same breath, so whoever held
# it before changes nothing here any more.
trap '' HUP PIPE

# refuse_if_held EXPIRY_S HOLDER DEAD, for the directory in place.
refuse_if_held() {
    [ -e "$place/holder" ] || return 0
    # Given up between the two questions: nobody holds it.
    beat=$(stat -c %Y "$place/heartbeat" 2>/dev/null) || return 0
    owner='' expiry=''
    { IFS= read -r owner < "$place/held_by"; } 2>/dev/null || :
    [ "$owner" != "$2" ] && [ "$owner" != "$3" ] || return 0
    { read -r expiry < "$place/expiry"; } 2>/dev/null || :
    is_number "$expiry" || expiry=$1
    age=$(($(date +%s) - beat))
    [ "$age" -lt "$expiry" ] || return 0
    # A beat far ahead of the clock was before the clock was set back: it tells nothing. The expiry
    # counts from now on, and who lives beats again long before.
    [ "$age" -gt "-$expiry" ] || touch -c "$place/heartbeat" 2>/dev/null
    say held "$age"
    say64 holder < "$place/holder"
    say step "$(cat "$place/step" 2>/dev/null)"
    refuse "held"
}

place=$1
take_in "$place" .holder
refuse_if_held "$4" "$3" "$6"
enter "$place" "$2" "$3"
# Asked again under the lock: of two who found it free, one comes first.
refuse_if_held "$4" "$3" "$6"
# Who it is comes last: until then it is nobody's, or still whose it was.
[ "$(cat "$place/held_by" 2>/dev/null)" = "$3" ] || rm -f "$place/step"
{ printf '%s\n' "$4" > "$place/expiry" && printf '%s\n' "$3" > "$place/held_by" &&
    : > "$place/heartbeat"; } 2>/dev/null || fail "cannot write in $place"
mv -f "$taken" "$place/holder" || fail "cannot write in $place"
finish done ''
