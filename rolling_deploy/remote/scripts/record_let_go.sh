# record_let_go DIR HOLDER: give the lock up, if it is HOLDER's.
#
# Not while somebody takes it; but an earlier command of ours that still runs here does not keep us.
if { true 9<"$1/lock"; } 2>/dev/null; then
    exec 9<"$1/lock"
    flock -w 1 9
fi
if [ "$(cat "$1/held_by" 2>/dev/null)" = "$2" ]; then
    rm -f "$1/holder" "$1/held_by" "$1/heartbeat" "$1/step" "$1/expiry"
    finish done ''
fi
refuse "held by somebody else"
