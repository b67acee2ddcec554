# service: the process of one backend: who it is, since when, and who is connected to it.
#
# Uses these variables, set by `named`: state (directory), port, listens (that port with the hex forms
# of the backend's own address, `PORT/FORM/FORM`; only `PORT` where it is a name), guarded (the same for
# every port that users' requests come in by), process (text of its command line, or empty for
# "whoever listens on the port"), exact (1: the text is one whole argument), ignored (hex forms of
# peers that do not count), is_catalina (1: the stop command is Tomcat's own script).

# named NAME=VALUE... -- WORDS...: sets the variables and `named_count`, which includes the `--`.
named() {
    named_count=0
    for named_word; do
        named_count=$((named_count + 1))
        [ "$named_word" = -- ] && return 0
        case ${named_word%%=*} in *[!a-z_]* | '') refuse "unknown argument $named_word" ;; esac
        eval "${named_word%%=*}=\${named_word#*=}"
    done
}

# now: sets now_cs, hundredths of a second that only ever grow.
now() {
    read -r now_cs _ < /proc/uptime
    now_cs=${now_cs%.*}${now_cs#*.}
}

# find_boot: sets this_boot, which is another one after every start of the machine.
find_boot() {
    [ -n "${this_boot-}" ] || { read -r this_boot < /proc/sys/kernel/random/boot_id; } 2>/dev/null ||
        this_boot=unknown
}

# this_tick: the kernel's start time of a process that starts now. Compared only with the start
# times of other processes, so no clock, time zone or container's idea of uptime matters.
this_tick() { cut -d ' ' -f 22 /proc/self/stat; }

# find_start PID: sets found_start, when this process started in the kernel's ticks, found_session
# and found_parent; false when it has ended. Asked many times a second, so without a fork.
find_start() {
    found_stat=''
    { read -r found_stat < "/proc/$1/stat"; } 2>/dev/null || return 1
    found_at=$1
    set -- ${found_stat##*) }
    if [ $# -lt 20 ]; then
        # A line break in the program's name: the first line is not all of it.
        found_stat=$(cat "/proc/$found_at/stat" 2>/dev/null) || return 1
        set -- ${found_stat##*) }
    fi
    case ${1:-Z} in Z | X) return 1 ;; esac
    found_parent=$2 found_session=$4 found_start=${20}
}

# sockets STATE ENDS: `state address port peer inode` of each TCP socket in this state, and of each
# that listens, on one of these ends. Where somebody listens on the backend's own address, only that
# address counts. The kernel lists the listening ones first (Documentation/networking/proc_net_tcp),
# and a busy machine has tens of thousands of others behind them, so who asks for those stops there.
sockets() {
    socket_state=$1 socket_ends=$2
    set --
    for socket_file in /proc/net/tcp /proc/net/tcp6; do
        [ ! -r "$socket_file" ] || set -- "$@" "$socket_file"
    done
    [ $# -gt 0 ] || return 0
    awk -v state="$socket_state" -v ends="$socket_ends" '
            BEGIN {
                count = split(ends, each, " ")
                for (i = 1; i <= count; i++) {
                    parts = split(each[i], part, "/")
                    port = sprintf("%04X", part[1])
                    number[port] = part[1]
                    if (parts == 1) is_wide[port] = 1
                    for (j = 2; j <= parts; j++) own[port, part[j]] = 1
                }
                for (file = 1; file < ARGC; file++) {
                    getline text < ARGV[file]
                    while ((getline text < ARGV[file]) > 0) {
                        split(text, field, " ")
                        if (state == "0A" && field[4] != "0A") break
                        if (split(field[2], part, ":") != 2 || !(part[2] in number)) continue
                        if (field[4] == "0A" && (part[2], part[1]) in own) is_narrow[part[2]] = 1
                        if (field[4] == state || field[4] == "0A")
                            line[++n] = part[2] " " part[1] " " field[4] " " field[3] " " field[10]
                    }
                    close(ARGV[file])
                }
                for (i = 1; i <= n; i++) {
                    split(line[i], part, " ")
                    if (part[1] in is_narrow && !(part[1] in is_wide) && !((part[1], part[2]) in own))
                        continue
                    print part[3], part[2], number[part[1]], part[4], part[5]
                }
            }' "$@"
}

# find_listeners: sets listeners to the inodes of the sockets that listen on the port, with blanks
# around each; false when nobody listens.
find_listeners() {
    listeners=' '
    while read -r socket_state socket_local socket_port socket_peer socket_inode; do
        [ -z "$socket_inode" ] || listeners="$listeners$socket_inode "
    done <<SOCKETS
$(sockets 0A "$listens")
SOCKETS
    [ "$listeners" != ' ' ]
}

# The texts below reach grep on stdin: on a command line they would match themselves. Our own
# scripts, and the shells that carry them, hold the text too; their name tells them apart.
pids_by_text() {
    if [ "$exact" = 1 ]; then set -- -x; pid_first=$process
    else set --; pid_first=${process%% *}; fi
    for pid_file in $(printf '%s\n' "$pid_first" |
        grep -l -z -F "$@" -f - /proc/[0-9]*/cmdline 2>/dev/null); do
        pid_line=" $(tr '\0' ' ' 2>/dev/null < "$pid_file")" || continue
        case $pid_line in *rolling-deploy:*) continue ;; esac
        # Tomcat's `stop` is a short-lived process with the same catalina.base.
        case $pid_line in *' org.apache.catalina.startup.Bootstrap '*stop' ') continue ;; esac
        pid=${pid_file#/proc/} pid=${pid%/cmdline}
        if [ "$exact" = 1 ] || holds_words "$pid_line"; then printf '%s\n' "$pid"; fi
    done
}

# holds_words LINE: the text stands there as whole words, so `--name app1` is not `--name app10`.
holds_words() {
    case $process in [A-Za-z0-9_]*) words_left='*[!A-Za-z0-9_]' ;; *) words_left='*' ;; esac
    case $process in *[A-Za-z0-9_]) words_right='[!A-Za-z0-9_]*' ;; *) words_right='*' ;; esac
    case $1 in $words_left"$process"$words_right) return 0 ;; esac
    return 1
}

# holders: who holds one of the $listeners, as far as we may see.
holders() {
    ls -l /proc/[0-9]*/fd 2>/dev/null | awk -v inodes="$listeners" '
        BEGIN { n = split(inodes, list, " "); for (i = 1; i <= n; i++) want["socket:[" list[i] "]"] = 1 }
        /^\/proc\/[0-9]+\/fd:$/ { split($0, part, "/"); pid = part[3] }
        $NF in want && !(pid in seen) { seen[pid] = 1; print pid }'
}

# pids_by_listener: who holds the listening socket; whom we last saw hold it (it may have let go
# and still be at work); and what a start command left that was not seen to its end.
pids_by_listener() {
    if find_listeners; then holders; fi
    if read_note processes; then
        for noted in $note_rest; do is_alive "$noted" && printf '%s\n' "${noted%%:*}"; done
    fi
    if read_note starting; then
        cat /proc/[0-9]*/stat 2>/dev/null | awk -v leader="$note_rest" '
            BEGIN { split(leader, part, ":") }
            { pid = $1; sub(/^.*\) /, "")
              if ($4 == part[1] && $20 >= part[2] && $1 != "Z") print pid }'
    fi
    return 0
}

# A note about processes is worth nothing after a reboot; `pid:start` never names another one. So it
# need not reach the disk before we go on, but there must be room for it.
write_note() {
    find_boot
    { printf '%s %s\n' "$this_boot" "$2" > "$state/$1"; } 2>/dev/null
}

# write_in_place NAME TEXT: over the same bytes as before, so a disk that has filled up meanwhile is no
# obstacle, and nobody reads half of it.
write_in_place() {
    find_boot
    { printf '%-120s\n' "$this_boot $2" 1<> "$state/$1"; } 2>/dev/null
}

read_note() {
    [ -s "$state/$1" ] && read -r note_boot note_rest < "$state/$1" && find_boot &&
        [ "$note_boot" = "$this_boot" ]
}

# is_at_work: a command of ours outlives the script that gave it: a stop that may still hit what is
# started next, or a start whose process is not there yet.
is_at_work() {
    read_note stopping && is_alive "$note_rest" && return 0
    [ -n "$process" ] && read_note starting && is_alive "$note_rest" && [ -z "$(processes)" ]
}

is_free() { ! is_busy "$state" && ! is_at_work; }

# refuse_while_at_work: after the lock, so whoever gave that command is gone.
refuse_while_at_work() {
    now; at_work_end=$((now_cs + 1000))
    while is_at_work; do
        now
        [ "$now_cs" -lt "$at_work_end" ] ||
            refuse "busy: an earlier stop or start command still runs here (pid ${note_rest%%:*}); nothing was changed"
        sleep 0.05
    done
}

# processes: `pid:start` of each process of the service, the oldest first.
processes() {
    if [ -n "$process" ]; then found_pids=$(pids_by_text); else found_pids=$(pids_by_listener); fi
    set --
    for found_pid in $found_pids; do
        case " $* " in *" $found_pid:"*) continue ;; esac
        find_start "$found_pid" || continue
        case ${strangers-} in *" $found_pid:$found_start "*) continue ;; esac
        # A stop command may hold the same words; it runs in a session of its own.
        [ "${stop_session:-none}" = "$found_session" ] || set -- "$@" "$found_pid:$found_start"
    done
    case $# in 0) ;; 1) printf '%s\n' "$1" ;; *) printf '%s\n' "$@" | sort -t : -k 2n -k 1n ;; esac
}

# find_running [always]: sets running to the processes of the service, and strangers to those whose
# command line only mentions it: an editor or a `tail` of somebody who works here. They are told
# apart by who holds the port: what shares neither session nor parent with a holder is a stranger,
# left out from here on. Asked only where there is doubt, more than one session, or `always`.
# Sets unsorted when there is doubt and the holder is not among them or not to be seen.
find_running() {
    strangers='' unsorted='' one_session='' running=$(processes)
    [ -n "$process" ] && [ "$exact" = 0 ] || return 0
    for one in $running; do
        find_start "${one%%:*}" || continue
        case $one_session in '' | "$found_session") one_session=$found_session ;; *) one_session=several ;; esac
    done
    [ "$one_session" = several ] || { [ -n "$one_session" ] && [ "${1-}" = always ]; } || return 0
    sort_running
    [ -z "$unsorted" ] || [ "$one_session" = several ] || [ -n "$holding" ] || unsorted=''
}

sort_running() {
    holding='' family=' ' parents=' ' sessions=' ' unsorted=$running
    ! find_listeners || holding=$(holders)
    for one in $holding; do
        find_start "$one" && sessions="$sessions$found_session " family="$family$one " parents="$parents$found_parent "
    done
    ours='' others=' '
    for one in $running; do
        find_start "${one%%:*}" || continue
        case "$sessions|$parents|$family" in
            *" $found_session "*"|"*"|"* | *"|"*" ${one%%:*} "*"|"* | *"|"*"|"*" $found_parent "*)
                ours="$ours $one" family="$family${one%%:*} " ;;
            *) others="$others$one " ;;
        esac
    done
    [ -z "$ours" ] || running=${ours# } strangers=$others unsorted=''
}

# is_hidden: somebody listens on the port, and no process of the service is to be seen.
is_hidden() { [ -z "$1" ] && find_listeners; }

is_alive() { find_start "${1%%:*}" && [ "$found_start" = "${1##*:}" ]; }

pids_of() { printf '%s' "$*" | tr '\n' ' ' | sed 's/:[0-9]*//g; s/ *$//'; }

# is_restarted ARTIFACT: prints yes, no or unknown: did the process start after this artifact was
# put in place? A swap that was begun and not noted to its end counts as not restarted.
is_restarted() {
    find_running
    if is_hidden "$running"; then printf 'unknown\n'; return; fi
    if [ -z "$running" ]; then printf 'no\n'; return; fi
    swap_tick='' swap_boot='' swap_artifact=''
    [ -s "$state/swap" ] && read -r swap_tick swap_boot swap_artifact < "$state/swap"
    if [ "$swap_artifact" != "$1" ]; then printf 'unknown\n'
    elif [ "$swap_tick" = - ]; then printf 'no\n'
    elif find_boot; [ "$swap_boot" != "$this_boot" ]; then printf 'yes\n'
    else
        # The oldest comes first.
        for running_first in $running; do break; done
        if [ "${running_first##*:}" -ge "$swap_tick" ]; then printf 'yes\n'; else printf 'no\n'; fi
    fi
}

# note_swap ARTIFACT TICK: TICK is `-` before the swap, and the time of it afterwards.
note_swap() {
    find_boot
    printf '%s %s %s\n' "$2" "$this_boot" "$1" > "$state/.swap" && sync -d "$state/.swap" &&
        mv -f "$state/.swap" "$state/swap"
}

# refuse_unless_seen: without seeing the process its end could not be waited for.
refuse_unless_seen() {
    find_running
    is_hidden "$running" &&
        refuse "port $port is listened on, and the process of this backend is not to be seen (another user's, or \`process\` names another); nothing was changed"
    return 0
}

# find_connected: sets peers to who is connected to a guarded port, peer_ports to which ports those
# are, and unlistened to the guarded ports that nobody listens on here.
find_connected() {
    peers='' peer_ports=' ' listened=' ' unlistened=''
    while read -r socket_state socket_local socket_port socket_peer socket_inode; do
        case $socket_state in
            0A) listened="$listened$socket_port " ;;
            01)
                case " $ignored " in *" ${socket_peer%%:*} "*) continue ;; esac
                peers="$peers $socket_peer"
                case $peer_ports in *" $socket_port "*) ;; *) peer_ports="$peer_ports$socket_port " ;; esac
                ;;
        esac
    done <<SOCKETS
$(sockets 01 "$guarded")
SOCKETS
    for guarded_port in $guarded; do
        guarded_port=${guarded_port%%/*}
        case "$listened$unlistened " in *" $guarded_port "*) ;; *) unlistened="$unlistened $guarded_port" ;; esac
    done
}

# refuse_if_connected: the guard. Whoever still talks to one of the ports gets 5 s to go; the proof
# that nobody new comes was given on the load balancers. Sets unguarded to what is to be said of a
# port that a running process does not listen on: going back from a start that hangs must not be
# refused for it, but it proves nothing either.
refuse_if_connected() {
    now; guard_end=$((now_cs + 500))
    while find_connected; [ -n "$peers" ]; do
        now
        if [ "$now_cs" -ge "$guard_end" ]; then
            for peer in $peers; do say peer "$peer"; done
            peer_ports=${peer_ports# }
            refuse "still connected to port ${peer_ports% } after 5 s; nothing was changed"
        fi
        sleep 0.05
    done
    unguarded=''
    [ -z "$running" ] || [ -z "$unlistened" ] ||
        unguarded="; connections were not checked on port$unlistened, as nothing listened there"
}

# refuse_unless_room: what is noted after the stop must fit on the disk before it.
refuse_unless_room() {
    { printf '%16384s' ' ' > "$state/.room"; } 2>/dev/null || {
        { true > "$state/.room"; } 2>/dev/null
        refuse "cannot write in $state (is the disk full?); nothing was changed"
    }
    true > "$state/.room"
}

# known_digest FILE: its sha256; not computed again for a file whose inode, size and times are
# those noted. Only scripts that change something take notes.
known_digest() {
    digest_key=$(key_of "$1")
    known_key='' known=''
    [ -s "$state/digest" ] && read -r known_key known < "$state/digest"
    if [ -n "$digest_key" ] && [ "$known_key" = "$digest_key" ]; then printf '%s\n' "$known"
    else digest_of "$1"; fi
}

key_of() { stat -L -c '%d:%i:%s:%y:%z' "$1" 2>/dev/null | tr ' ' _; }

# note_digest KEY DIGEST FILE: only while KEY is still the file's, and the file older than what
# one tick of its time stamps could hide.
note_digest() {
    [ "$(key_of "$3")" = "$1" ] || return 0
    [ $(($(date +%s) - $(stat -L -c %Z "$3"))) -ge 2 ] || return 0
    printf '%s %s\n' "$1" "$2" > "$state/.digest" && mv -f "$state/.digest" "$state/digest"
}

# Our channel may close while we work; what was begun goes on to its end, holding the lock.
survive_the_channel() { trap '' HUP PIPE; }
