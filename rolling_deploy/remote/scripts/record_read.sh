# record_read DIR [ROLLOUT]: this load balancer's copy of the record in hand (or of ROLLOUT), the
# lock beside it, and the fence. Reads only.
dir=$1
say now "$(date +%s)"
say fence "$(seen_fence "$dir")"
if [ -e "$dir/holder" ]; then
    say64 holder < "$dir/holder"
    say step "$(cat "$dir/step" 2>/dev/null)"
    if [ -e "$dir/heartbeat" ]; then
        say heartbeat_age $(($(date +%s) - $(stat -c %Y "$dir/heartbeat")))
    fi
fi
current=${2:-$(cat "$dir/current" 2>/dev/null)}
say current "$current"
if [ -n "$current" ] && [ -e "$dir/$current.jsonl" ]; then
    say64 record < "$dir/$current.jsonl"
fi
finish done ''
