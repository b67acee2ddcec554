# with: service service_commands war_store
# activate_tomcat: stop this Tomcat, put the WAR in place, start it. In one round trip, so that
# the guard and what it guards cannot be torn apart.
#
# Dying here: before the stop, nothing has changed. After it, Tomcat may be stopped with the old
# WAR (the rename was not reached) or the new one; a look tells, and doing this again finishes.
named "$@"
shift "$named_count"
war_places
enter "$state" "$epoch" "$holder"
survive_the_channel
refuse_while_at_work
next=$store/.next
gone=$store/.gone

is_digest "$artifact" || refuse "\`$artifact\` is not the name of a WAR; nothing was changed"
earlier=$(deployed)
if [ "$earlier" = "$artifact" ] && [ "$(is_restarted "$artifact")" = yes ]; then
    finish done "already deployed, by a process that started after it"
fi

# Everything that takes time or may fail is done while the application still runs.
[ -f "$store/$artifact.war" ] || refuse "this WAR is not on the machine: stage it first; nothing was changed"
make_store
secure_deployed
rm -rf "$gone"
remove_old_work
cp --reflink=auto "$store/$artifact.war" "$next" || refuse "cannot write $next; nothing was changed"
if [ "$(digest_of "$next")" != "$artifact" ]; then
    rm -f "$next"
    mv -f -T "$store/$artifact.war" "$store/.damaged"
    refuse "the staged WAR is damaged (its sha256 is not $artifact): stage it again; nothing was changed"
fi
if [ -f "$war" ]; then like=$war mode=$(stat -L -c %a "$war"); else like=$webapps mode=644; fi
chmod "$mode" "$next" || refuse "cannot set the mode of $next; nothing was changed"
sync -d "$next"
stuck=$(stuck_places)
[ -z "$stuck" ] || refuse "cannot write in $(printf '%s' "$stuck" | tr '\n' ' '), where Tomcat's own files must go; nothing was changed"
refuse_unless_room

refuse_unless_seen
# Only root may give files away; a group of one's own is enough where it may read.
chown --reference="$like" "$next" 2>/dev/null || { chgrp --reference="$like" "$next" 2>/dev/null; refuse_unless_readable; }
refuse_if_connected

state_now="$context.war is still ${earlier:-absent}"
before=''
# `catalina.sh stop` with nothing to stop takes a second to say so; a service manager must hear it
# all the same, it may be about to restart what has died.
if [ -n "$running" ] || [ "$is_catalina" = 0 ]; then
    stop_service "$stop_ms" "$state_now" 0 "$stop_count" "$@"
fi
state_now="the backend is stopped, $state_now"
fail_if_back "$state_now"
[ "$(deployed)" = "$earlier" ] || fail "$context.war was changed by somebody else meanwhile; $state_now"

note_swap "$artifact" - || fail "cannot write in $state; $state_now"
if [ -d "$exploded" ] || [ -L "$exploded" ]; then
    # What Tomcat unpacked from a WAR is dropped; a directory that somebody put there is kept.
    case $earlier in dir:*) gone=$store/kept-$(date +%Y%m%dT%H%M%S) ;; esac
    mv -T "$exploded" "$gone" || fail "cannot move $exploded away; $state_now"
    state_now="$state_now, $exploded was moved to $gone"
fi
for work in "$base"/work/*/*/"$context"; do
    [ ! -d "$work" ] || move_work_aside || fail "cannot move $work away; $state_now"
done
# An unchanged time would make Tomcat keep what it unpacked before.
touch "$next" && mv -f -T "$next" "$war" || fail "cannot put $war in place; $state_now"
swapped_key=$(key_of "$war")
state_now="$context.war is $artifact now, and the backend is stopped"
note_swap "$artifact" "$(this_tick)" || fail "cannot write in $state; $state_now"

start_service "$start_ms" "$state_now" "$stop_count" "$start_count" "$@"
note_digest "$swapped_key" "$artifact" "$war"
touch "$store/$artifact.war"
rm -rf "$store/.gone"
remove_old_work
finish done "process ${up%%:*} runs $artifact$unguarded"
