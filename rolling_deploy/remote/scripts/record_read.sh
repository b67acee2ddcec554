# record_read DIR [ROLLOUT]: this load balancer's copy of the record in hand (or of ROLLOUT), the
# lock beside it, and the fence. Reads only.
#
# What is there and cannot be read is a failure: taken for nothing, it would let a second rollout
# begin beside the one in hand.
dir=$1

# must_read FILE: true when it is there; ends here when it is and cannot be read.
must_read() {
    [ -e "$1" ] || return 1
    [ -f "$1" ] && [ -r "$1" ] || fail "cannot read $1"
}

# A directory that cannot be looked into makes everything beneath it seem absent.
above=$dir
while [ ! -e "$above" ]; do
    case $above in /*/*) above=${above%/*} ;; *) above=/ ;; esac
done
[ ! -d "$above" ] || [ -x "$above" ] || fail "cannot look into $above, so what lies in $dir is not known"

say now "$(date +%s)"
find_fence "$dir"
is_number "$seen_epoch" || fail "the fence $dir/fence cannot be read"
say fence "$seen_epoch $seen_holder"
if must_read "$dir/holder"; then
    say64 holder < "$dir/holder"
    say step "$(cat "$dir/step" 2>/dev/null)"
    if [ -e "$dir/heartbeat" ]; then
        say heartbeat_age $(($(date +%s) - $(stat -c %Y "$dir/heartbeat")))
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
