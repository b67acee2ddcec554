# with: service service_commands war_store wiring_store wiring_facts
# activate_wiring: stop this Tomcat, put a staged set of files in place, start it. In one round trip,
# so that the guard and what it guards cannot be torn apart.
#
# Dying here: before the stop, nothing has changed but for dot-names. After it, Tomcat may be stopped
# with some of the files in place and others not; the note `moving` says which sets they belong to, and
# doing this again, with either set, finishes.
named "$@"
shift "$named_count"
wiring_places
enter "$state" "$epoch" "$holder"
survive_the_channel
refuse_while_at_work

trap drop_prepared EXIT
is_digest "$artifact" || refuse "\`$artifact\` is not the name of a wiring; nothing was changed"
read_current || refuse "$unreadable cannot be read; nothing was changed"
earlier=$current
find_restarted
if [ "$current" = "$artifact" ] && [ "$restarted" = yes ]; then
    place_mark
    finish done "in place already, and read by a process that started after it$unmarked"
fi

# Everything that takes time or may fail is done while the application still runs.
is_whole "$artifact" || refuse "this wiring is not on the machine: stage it first; nothing was changed"
wanted_text=$(cat "$wiring/$artifact.manifest" && printf .)
wanted_text=${wanted_text%.}
[ "$(name_of "$wanted_text")" = "$artifact" ] || refuse "the staged wiring is damaged: stage it again; nothing was changed"
for path in $paths; do
    digest_in "$wanted_text" "$path"
    [ -n "$found" ] || refuse "this wiring knows nothing of $path, which belongs to it now: stage it again; nothing was changed"
done
make_wiring_store
refuse_unless_known
refuse_unless_seen
while read -r digest path; do
    [ -n "$path" ] || continue
    digest_in "$current_text" "$path"
    [ -n "$found" ] || refuse "this wiring has $path, which does not belong to it now; nothing was changed"
    [ "$found" != "$digest" ] || continue
    place_of "$path"
    [ -z "$astray" ] || refuse "$base/$path is a link that leads nowhere; nothing was changed"
    [ ! -d "${place%/*}" ] || [ -w "${place%/*}" ] || refuse "cannot write in ${place%/*}; nothing was changed"
    [ "$digest" = - ] || prepare_next "$digest" "$path"
done <<TEXT
$wanted_text
TEXT
refuse_unless_room
refuse_if_connected

state_now="the files of the wiring are as they were"
before=''
if [ -n "$running" ] || [ "$is_catalina" = 0 ]; then
    stop_service "$stop_ms" "$state_now" 0 "$stop_count" "$@"
fi
state_now="the backend is stopped, $state_now"
fail_if_back "$state_now"
if ! read_current || [ "$current" != "$earlier" ]; then
    # No set has their edit, so no later order of ours could start this backend either.
    start_service "$start_ms" "a file of the wiring was changed by somebody else meanwhile; $state_now" "$stop_count" "$start_count" "$@"
    fail "a file of the wiring was changed by somebody else meanwhile; the backend was started again with its files as they are"
fi

(state=$wiring; note_swap "$artifact" -) && write_text moving "$moving
" || fail "cannot write in $wiring; $state_now"
swap_files || fail "cannot put $stuck in place; the backend is stopped, and some of the files are new"
state_now="the files of the wiring are new, and the backend is stopped"
swap_tick=$(this_tick)
(state=$wiring; note_swap "$artifact" "$swap_tick") || fail "cannot write in $wiring; $state_now"
rm -f "$wiring/moving"
place_mark

start_service "$start_ms" "$state_now" "$stop_count" "$start_count" "$@"
finish done "process ${up%%:*} has read the files$unguarded$unmarked"
