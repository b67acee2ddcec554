# with: nginx_settings nginx_processes nginx_generation
# nginx_look: one look at a load balancer; changes nothing.
# Which snapshot lists a worker first tells which generation it serves: the one replaced then.
pins() {
    awk '
        FNR == 1 { sequence = 0; before = "" }
        /^sequence=/ { sequence = substr($0, 10) + 0 }
        /^before=/ { before = substr($0, 8) }
        /^worker / {
            id = $2 " " $3
            if (!(id in first) || sequence < first[id]) { first[id] = sequence; name[id] = before }
        }
        END { for (id in first) print id, name[id] }' "$state"/generations/* 2>/dev/null </dev/null
}

# connections PID: its established TCP connections, or nothing when that cannot be read.
connections() {
    k_inodes=$(ls -l "/proc/$1/fd" 2>/dev/null | sed -n 's/.*socket:\[\([0-9]*\)\]$/\1/p')
    [ -n "$k_inodes" ] || return 0
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v list="$k_inodes" '
        BEGIN { split(list, inode, "\n"); for (i in inode) mine[inode[i]] }
        $4 == "01" && $10 in mine { count++ }
        END { print count + 0 }'
}

say_workers() {
    l_pins= l_left=10
    [ "$n_earlier" -eq 0 ] || l_pins=$(pins)
    while read -r w_pid w_start w_verdict; do
        [ -n "$w_pid" ] || continue
        l_generation= l_open=
        case $w_verdict in unretired | retiring)
            l_generation=$(printf '%s\n' "$l_pins" | sed -n "s/^$w_pid $w_start //p")
            if [ "$l_left" -gt 0 ]; then l_left=$((l_left - 1)); l_open=$(connections "$w_pid"); fi ;;
        esac
        say worker "$w_pid $w_start $w_verdict ${l_generation:--} ${l_open:--}"
    done <<LIST
$workers
LIST
}

if is_busy "$state"; then say busy 1; else say busy 0; fi
say fence "$(seen_fence "$state" 2>/dev/null)"
if [ -e "$file" ]; then
    [ -f "$file" ] && [ -r "$file" ] || fail "cannot read $file"
    say64 file < "$file"
elif [ -L "$file" ]; then
    say dangling 1
fi
list_processes
find_master || say no_master "$master_why"
find_snapshot "$(digest_of "$file")"
count_workers "$snapshot"
ask_live
say master "$master"
say pid_state "$pid_state"
[ -z "$snapshot" ] || say snapshot "${snapshot##*/}"
say_workers
say live "$live"
# Another application's endpoint answers for ours when ours is not loaded; its generations were
# never published from this state directory.
case $live in '' | */*) ;; *) [ ! -e "$state/generations/$live" ] || say is_published 1 ;; esac
say answers "$answers"
finish done
