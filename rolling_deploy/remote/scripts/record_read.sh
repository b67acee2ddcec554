# record_read DIR [ROLLOUT]: this load balancer's copy of the record in hand (or of ROLLOUT), the
# lock beside it, and the fence. Reads only.
#
# What is there and cannot be read is a failure: taken for nothing, it would let a second rollout
# begin beside the one in hand.
dir=$1

# must_read FILE: true when it is there; ends here when it is and cannot be read.
must_read() {
    [ -e "$1" ] || return 1
    if [ -f "$1" ] && [ -r "$1" ]; then return 0; fi
    # A lock may be given up between two questions.
    [ -e "$1" ] || return 1
    fail "cannot read $1"
}

# A directory that cannot be looked into makes everything beneath it seem absent.
above=$dir
while [ ! -e "$above" ]; do
    case $above in /*/*) above=${above%/*} ;; *) above=/ ;; esac
done
[ ! -d "$above" ] || [ -x "$above" ] || fail "cannot look into $above, so what lies in $dir is not known"

say now "$(date +%s)"
find_fence "$dir"
is_epoch "$seen_epoch" || fail "the fence $dir/fence cannot be read"
say fence "$seen_epoch $seen_holder"
if must_read "$dir/holder"; then
    holder=$(base64 < "$dir/holder" 2>/dev/null | tr -d '\n')
    say 'holder:' "$holder"
    say held_by "$(cat "$dir/held_by" 2>/dev/null)"
    say step "$(cat "$dir/step" 2>/dev/null)"
    if beat=$(stat -c %Y "$dir/heartbeat" 2>/dev/null); then
        say beat "$beat"
        say heartbeat_age $(($(date +%s) - beat))
    fi
fi
current=${2-}
if [ -z "$current" ] && must_read "$dir/current"; then
    read -r current < "$dir/current" || :
fi
say current "$current"
if [ -n "$current" ] && must_read "$dir/$current.jsonl"; then
    say64 record < "$dir/$current.jsonl"
fi
finish done ''
