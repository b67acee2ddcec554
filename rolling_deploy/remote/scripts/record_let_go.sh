# record_let_go DIR HOLDER [FORCE]: give the lock up. With FORCE whoever holds it.
if [ "${3:-}" = force ] || [ "$(cat "$1/held_by" 2>/dev/null)" = "$2" ]; then
    rm -f "$1/holder" "$1/held_by" "$1/heartbeat" "$1/step"
    finish done ''
fi
refuse "held by somebody else"
