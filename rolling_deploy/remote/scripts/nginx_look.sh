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

# connections FOLDER...: `PID COUNT`, the established TCP connections of each process whose `fd`
# folder can be read. All at once: a busy machine has tens of thousands of sockets to go through.
connections() {
    [ $# -gt 0 ] || return 0
    # With a second argument ls names each directory, also a single one.
    { ls -l "$@" /dev/null; printf 'sockets\n'; cat /proc/net/tcp /proc/net/tcp6; } 2>/dev/null | awk '
        $0 == "sockets" { is_table = 1 }
        !is_table && /^\/proc\/[0-9]+\/fd:$/ { split($0, part, "/"); pid = part[3] }
        !is_table && pid && $NF ~ /^socket:/ {
            inode = $NF; gsub(/[^0-9]/, "", inode)
            owners[inode] = owners[inode] " " pid; count[pid] += 0
        }
        is_table && $4 == "01" && $10 in owners {
            n = split(owners[$10], pids, " ")
            for (i = 1; i <= n; i++) count[pids[i]]++
        }
        END { for (pid in count) print pid, count[pid] }'
}

say_workers() {
    l_pins= l_open_of=
    if [ "$n_earlier" -gt 0 ]; then
        l_pins=$(pins)
        # shellcheck disable=SC2046 # a list of paths without blanks
        l_open_of=$(connections $(printf '%s\n' "$workers" |
            sed -n 's,^\([0-9]*\) .* \(unretired\|retiring\)$,/proc/\1/fd,p' | head -n 10))
    fi
    while read -r w_pid w_start w_verdict; do
        [ -n "$w_pid" ] || continue
        l_generation= l_open=
        case $w_verdict in unretired | retiring)
            l_generation=$(printf '%s\n' "$l_pins" | sed -n "s/^$w_pid $w_start //p")
            l_open=$(printf '%s\n' "$l_open_of" | sed -n "s/^$w_pid //p") ;;
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
