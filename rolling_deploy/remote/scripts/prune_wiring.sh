# with: service war_store wiring_store
# prune_wiring: remove earlier sets of files. Never the one in place, never one named in `keep` or of an
# activation that was cut short, never the newest `newest` of the rest.
#
# Dying here leaves fewer or more of them; a set whose files are gone in part no longer counts as ready.
named "$@"
wiring_places
enter "$state" "$epoch" "$holder"
survive_the_channel
[ -d "$wiring" ] || finish done
read_current || refuse "$unreadable cannot be read; nothing was removed"
moving=''
[ ! -s "$wiring/moving" ] || read -r moving < "$wiring/moving"
kept=0
for staged in $(ls -t "$wiring" 2>/dev/null | sed -n 's/\.manifest$//p'); do
    is_digest "$staged" || continue
    case " $keep $moving $current " in *" $staged "*) continue ;; esac
    kept=$((kept + 1))
    [ "$kept" -gt "$newest" ] || continue
    rm -f "$wiring/$staged.manifest" "$wiring/$staged.modes" "$wiring/$staged".*.mark || fail "cannot remove $wiring/$staged.manifest"
    say removed "$staged"
done
for blob in "$wiring"/*.blob; do
    blob=${blob##*/} blob=${blob%.blob}
    is_digest "$blob" || continue
    grep -q -s -e "^$blob " "$wiring"/*.manifest || rm -f "$wiring/$blob.blob"
done
rm -f "$wiring/.damaged" "$wiring/.securing" "$wiring/.text" "$wiring/.probe"
finish done
