# with: nginx_settings nginx_processes nginx_generation nginx_publish
# nginx_unadopt EPOCH HOLDER REPLACES: the original back, byte for byte.
epoch=$1 holder=$2 replaces=$3
enter "$state" "$epoch" "$holder"
[ -f "$state/original" ] || refuse "no original of $file is kept in $state"
ready_to_change "$replaces"
count_workers ''
ask_live
unwanted=$live
original=$(digest_of "$state/original")
placed=0 ours=$original
if [ "$replaced" != "$original" ]; then
    [ "$replaced" = absent ] || cp "$real" "$state/previous" || fail "cannot keep the file in $state; nothing was changed"
    our_mode=$o_mode our_user=$o_user our_group=$o_group
    [ ! -s "$state/original.owner" ] || read -r o_mode o_user o_group < "$state/original.owner"
    publish "$state/original"
    o_mode=$our_mode o_user=$our_user o_group=$our_group
    test_or_put_back
fi
find_snapshot -
list_processes
# Under no digest: the original is not a text of ours, and must never pass for one.
take_snapshot unadopted - - || fail_unloaded "cannot note the workers in $state"
judge_pid_file
why_not_ours
[ -z "$ours_why" ] || fail_unloaded "$ours_why"
reload
prove "$state/generations/unadopted" - || fail_unproved
mv -f "$state/original" "$state/original.restored"
mv -f "$state/original.owner" "$state/original.restored.owner" 2>/dev/null
finish done "the original is back and loaded, $n_earlier earlier workers are left"
