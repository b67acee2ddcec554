# with: service war_store wiring_store
# stage_wiring: keep a copy of the files as they are, and say what of the wanted ones is still to be
# sent. `expected` is the name of the set that the wanted one was made from.
#
# Dying here leaves dot-names in the store at most; a set counts as ready only when all of it is there.
named "$@"
wiring_places
enter "$state" "$epoch" "$holder"
survive_the_channel
[ -d "$base/conf" ] || refuse "$base/conf is not a directory; nothing was changed"
read_current || refuse "$unreadable cannot be read; nothing was changed"
[ "$current" = "$expected" ] ||
    refuse "a file of the wiring was changed while the new one was made: do it again; nothing was changed"
drop_prepared
make_wiring_store
secure_current
say store "$wiring"
if [ "$current" = "$artifact" ]; then
    write_text "$artifact.$application.mark" "$mark" || refuse "cannot write in $wiring; nothing was changed"
    finish done "nothing is missing"
fi
modes=''
find_running
while read -r digest path; do
    [ -n "$path" ] && [ "$digest" != - ] || continue
    mode=$(next_mode "$path")
    modes="$modes$mode $path
"
    digest_in "$current_text" "$path"
    [ "$found" != "$digest" ] || continue
    place_of "$path"
    [ -z "$astray" ] || refuse "$base/$path is a link that leads nowhere; nothing was changed"
    # Said now, not once users have been taken off this backend.
    rm -f "$wiring/.probe"
    { true > "$wiring/.probe"; } 2>/dev/null || refuse "cannot write in $wiring; nothing was changed"
    hand_over "$wiring/.probe" "$path" "$mode"
    [ ! -e "$base/$path" ] || [ "$(stat -c '%u %g' "$wiring/.probe")" = "$(stat -L -c '%u %g' "$base/$path")" ] ||
        refuse "$base/$path belongs to $(stat -L -c %U:%G "$base/$path"), who would lose it to $(stat -c %U:%G "$wiring/.probe"); nothing was changed"
    [ "$(digest_of "$wiring/$digest.blob")" != "$digest" ] || continue
    rm -f "$wiring/$digest.blob"
    say missing "$digest"
done <<TEXT
$wanted
TEXT
rm -f "$wiring/.probe"
write_text "$artifact.modes" "$modes" && write_text "$artifact.$application.mark" "$mark" &&
    write_text "$artifact.manifest" "$wanted" ||
    refuse "cannot write in $wiring; nothing was changed"
finish done
