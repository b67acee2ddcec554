# record_let_go DIR HOLDER: give the lock up, if it is HOLDER's.
#
# Not while somebody takes it. An earlier command of ours that still runs here (a reload that waits)
# holds the machine's lock too, maybe for minutes, and does not keep us: who takes the lock is told
# from it by the file that `record_hold` brings along (`take_in`) and puts in place at its end.
is_being_taken() {
    for taking in "$1/.holder".*; do
        [ -e "$taking" ] && [ -d "/proc/${taking##*.}" ] && return 0
    done
    return 1
}

is_alone=1
if { true 9<"$1/lock"; } 2>/dev/null; then
    exec 9<"$1/lock"
    flock -w 1 9 || is_alone=0
fi
# Asked before it is read whose it is: whoever begins to take it after this has far more to do
# first than we have left.
if [ "$is_alone" = 0 ] && is_being_taken "$1"; then
    refuse "busy: somebody takes it at this moment"
fi
owner=''
{ IFS= read -r owner < "$1/held_by"; } 2>/dev/null || :
if [ "$owner" = "$2" ]; then
    rm -f "$1/holder" "$1/held_by" "$1/heartbeat" "$1/step" "$1/expiry" "$1/intent"
    finish done ''
fi
refuse "held by somebody else"
