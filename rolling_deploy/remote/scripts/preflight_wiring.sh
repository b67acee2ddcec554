# with: service service_facts war_store wiring_store wiring_facts
# preflight_wiring: facts about this Tomcat and its machine; what they mean is judged by the sender.
named "$@"
shift "$named_count"
wiring_places
say_service "$@"
[ -d "$base/conf" ] || { say conf missing; finish done; }
folders=' '
for path in $paths; do
    place_of "$path"
    [ -z "$astray" ] || { say astray "$base/$path"; continue; }
    case $folders in *" ${place%/*} "*) continue ;; esac
    folders="$folders${place%/*} "
    is_writable "${place%/*}" || say_unwritable "${place%/*}"
done
is_writable "$wiring" || say_unwritable "$wiring"
say free_kb "$(free_kb "$wiring")"
say free_kb "$(free_kb "$base/conf")"
say free_kb "$(free_kb "$base/lib")"
for path in $paths; do
    [ -e "$base/$path" ] || continue
    if [ -r "$base/$path" ]; then say bytes "$(stat -L -c %s "$base/$path")"; else say unreadable "$base/$path"; fi
done
for folder in "$base/lib" "$home/lib"; do
    for jar in "$folder"/*.jar; do
        [ ! -e "$jar" ] || say jar "$jar"
    done
    [ "$base/lib" != "$home/lib" ] || break
done
for path in $paths; do
    case $path in lib/*) [ ! -e "$home/$path" ] || say home_digest "$(digest_of "$home/$path") $home/$path" ;; esac
done
for blob in "$wiring"/*.blob; do
    [ ! -e "$blob" ] || { blob=${blob##*/}; say here "${blob%.blob}"; }
done
for path in $private; do
    [ ! -e "$base/$path" ] || case $(stat -L -c %a "$base/$path") in *0) ;; *) say open "$base/$path" ;; esac
done
for path in $paths; do say_next "$path"; done
# Another Tomcat that reads the same `conf` would take the new files in the middle of its work.
for other in $(grep -l -a -z -e '^-Dcatalina\.base=' /proc/[0-9]*/cmdline 2>/dev/null); do
    pid=${other#/proc/} pid=${pid%/cmdline}
    case " $(pids_of "$running") " in *" $pid "*) continue ;; esac
    other=$(tr '\0' '\n' 2>/dev/null < "/proc/$pid/cmdline" | sed -n 's/^-Dcatalina\.base=//p')
    for path in $paths; do
        case $path in conf/*) [ ! "$base/$path" -ef "$other/$path" ] || say shared "$other/$path" ;; esac
    done
done
grep -l '<Manager' "$base"/conf/*/*/*.xml "$base/webapps/$context/META-INF/context.xml" 2>/dev/null | while read -r descriptor; do
    say descriptor "$descriptor"
done
finish done
