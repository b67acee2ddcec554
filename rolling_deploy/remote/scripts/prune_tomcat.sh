# with: service war_store
# prune_tomcat: remove earlier WARs. Never the deployed one, never one named in `keep`, never the
# newest `newest` of the rest.
#
# Dying here leaves fewer or more of them; each goes in one move.
named "$@"
war_places
enter "$state" "$epoch" "$holder"
survive_the_channel
current=$(deployed)
kept=0
for staged in $(ls -t "$store" 2>/dev/null | sed -n 's/\.war$//p'); do
    is_digest "$staged" || continue
    case " $keep $current " in *" $staged "*) continue ;; esac
    kept=$((kept + 1))
    [ "$kept" -gt "$newest" ] || continue
    rm -f "$store/$staged.war" || fail "cannot remove $store/$staged.war"
    say removed "$staged"
done
rm -rf "$store/.gone" "$store/.damaged" "$store/.next"
finish done
