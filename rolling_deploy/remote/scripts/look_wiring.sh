# with: service war_store wiring_store wiring_facts
# look_wiring: which set of files is in place, which lie ready, whether the process is newer. Changes
# nothing. A set whose name nobody knows is an edit, or an activation that was cut short.
named "$@"
wiring_places
is_free || say busy 1
[ -d "$base/conf" ] || fail "$base/conf is not a directory"
read_current || fail "$unreadable cannot be read"
say artifact "$current"
for staged in "$wiring"/*.manifest; do
    staged=${staged##*/} staged=${staged%.manifest}
    is_digest "$staged" && is_whole "$staged" && say staged "$staged"
done
# A restart for another release is none for the wiring, and the other way round: notes of their own.
find_restarted
say restarted "$restarted"
# Asked again: what began in between is not yet what will be.
is_free || say busy 1
finish done
