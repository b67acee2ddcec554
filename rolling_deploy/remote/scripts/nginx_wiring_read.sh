# with: nginx_settings nginx_processes nginx_publish nginx_wiring
# nginx_wiring_read PATH...: exact bytes of files, where they lead, and whether they could be written.
# Changes nothing.
[ ! -e "$setup/journal" ] || say unfinished "$(cat "$setup/journal")"
if is_busy "$state"; then say busy 1; fi
number=0
for path; do
    number=$((number + 1))
    why_closed "$path"
    printf '%s' "$real" | say64 "real$number"
    say "closed$number" "$closed"
    [ ! -f "$real" ] || [ ! -r "$real" ] || say64 "data$number" < "$real"
done
say_edited
finish done
