# with: service service_facts war_store
# preflight_tomcat: facts about this Tomcat and its machine; what they mean is judged by the sender.
named "$@"
shift "$named_count"
war_places
say_service "$@"
[ -d "$webapps" ] || { say webapps missing; finish done; }
stuck_places | while read -r stuck; do say_unwritable "$stuck"; done
is_writable "$store" || say_unwritable "$store"
for work in "$base"/work/*/*/"$context"; do
    [ ! -d "$work" ] || { [ -w "$work" ] && [ -x "$work" ]; } || say not_removable "$work"
done
say_if_unreadable
nearest=$store
while [ ! -e "$nearest" ]; do nearest=$(dirname "$nearest"); done
[ "$(stat -L -c %d "$nearest")" = "$(stat -L -c %d "$webapps")" ] || say elsewhere "$webapps"
say free_kb "$(free_kb "$store")"
if [ -f "$war" ]; then
    if [ -r "$war" ]; then say deployed_bytes "$(stat -L -c %s "$war")"; else say unreadable "$war"; fi
    say here "$(known_digest "$war")"
    [ ! -L "$war" ] || say war_is_link "$(readlink "$war")"
elif [ -d "$exploded" ]; then say directory_only "$exploded"
fi
for staged in "$store"/*.war; do
    staged=${staged##*/}
    [ ! -e "$store/$staged" ] || say here "${staged%.war}"
done
grep -l docBase "$base"/conf/*/*/"$context.xml" 2>/dev/null | while read -r descriptor; do
    say descriptor "$descriptor"
done
[ ! -r "$base/conf/server.xml" ] || head -c 1000000 "$base/conf/server.xml" | say64 server_xml
finish done
