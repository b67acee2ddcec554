# with: service release_store
# prune_release: remove earlier releases that this tool unpacked. Never the deployed one, never one
# named in `keep`, never the newest `newest` of the rest, never a directory of somebody else's.
#
# Dying here: a release gets a dot-name before its files go, so half of one is never taken for one.
named "$@"
release_places
enter "$state" "$epoch" "$holder"
survive_the_channel
current=$(deployed)
kept=0
for folder in $(ls -t "$releases" 2>/dev/null); do
    place=$releases/$folder
    [ -d "$place" ] && [ ! -L "$place" ] && [ -s "$place/$name_file" ] || continue
    name=$(name_of "$place")
    case " $keep $current " in *" $name "*) continue ;; esac
    kept=$((kept + 1))
    [ "$kept" -gt "$newest" ] || continue
    mv -T "$place" "$releases/.gone-$folder" || fail "cannot remove $place"
    rm -rf "$releases/.gone-$folder"
    say removed "$name"
done
rm -rf "$releases"/.gone-* "$releases"/.new-*
find "$releases/.incoming" -type f -mmin +60 -delete 2>/dev/null
finish done
