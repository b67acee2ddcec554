# with: service service_commands release_store
# activate_release: stop, switch the link, start; or switch the link, restart. In one round trip,
# so that the guard and what it guards cannot be torn apart.
#
# Dying here: the link points at one release or the other, never at nothing; the process may be
# stopped, or be the one from before. A look tells, and doing this again finishes.
named "$@"
shift "$named_count"
release_places
enter "$state" "$epoch" "$holder"
survive_the_channel
refuse_while_at_work

earlier=$(deployed)
if [ "$earlier" = "$artifact" ] && [ "$(is_restarted "$artifact")" = yes ]; then
    finish done "already deployed, by a process that started after it"
fi
target=$(release_dir "$artifact")
[ -n "$target" ] || refuse "\`$artifact\` is not on the machine: stage it first; nothing was changed"
refuse_unless_link
secure_deployed
# The new link is written before anything is stopped; only the rename is left for later.
next=$root/.current.next
case $target in "$releases"/*) points_at=releases/${target##*/} ;; *) points_at=$target ;; esac
ln -s -f -n "$points_at" "$next" || refuse "cannot write $next; nothing was changed"
refuse_unless_room

refuse_unless_seen
refuse_if_connected

state_now="$link still points at ${earlier:-nothing}"
before=''
if [ "$is_restart" = 0 ]; then
    stop_service "$stop_ms" "$state_now" 0 "$stop_count" "$@"
    before='' state_now="the backend is stopped, $state_now"
    fail_if_back "$state_now"
else
    before=$(processes)
fi
[ "$(deployed)" = "$earlier" ] || fail "$link was changed by somebody else meanwhile; $state_now"
note_swap "$artifact" - || fail "cannot write in $state; $state_now"
mv -f -T "$next" "$link" || fail "cannot switch $link; $state_now"
if [ "$is_restart" = 0 ]; then state_now="$link points at $artifact now, and the backend is stopped"
else state_now="$link points at $artifact now"; fi
note_swap "$artifact" "$(this_tick)" || fail "cannot write in $state; $state_now"

start_service "$start_ms" "$state_now" "$stop_count" "$start_count" "$@"
finish done "process ${up%%:*} runs $artifact$unguarded"
