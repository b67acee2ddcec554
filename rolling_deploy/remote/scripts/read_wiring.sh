# with: service war_store wiring_store wiring_facts
# read_wiring: the digest of every file of the wiring, and what is in those that `shown` names, which are
# small texts; they may hold passwords. And what a plan depends on besides: see `wiring_facts`. Changes
# nothing.
named "$@"
wiring_places
[ -d "$base/conf" ] || fail "$base/conf is not a directory"
read_current || fail "$unreadable cannot be read"
while read -r digest path; do
    [ -z "$path" ] || say digest "$digest $path"
done <<TEXT
$current_text
TEXT
for path in $shown; do
    [ -e "$base/$path" ] || continue
    [ "$(stat -L -c %s "$base/$path")" -le 4000000 ] || fail "$base/$path is larger than 4 MB"
    say path "$path"
    say64 content < "$base/$path"
done
say_restarted
say_tomcat
say_marks
finish done
