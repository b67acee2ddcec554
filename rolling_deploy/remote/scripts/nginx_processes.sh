# What nginx runs on this machine, told from /proc alone: no ps, no root.

# now_ms: milliseconds since the machine started, without a fork; in rd_now. Steps of 10 ms.
now_ms() {
    read -r rd_up rd_rest < /proc/uptime
    rd_now=$(((${rd_up%.*} * 100 + 1${rd_up#*.} - 100) * 10))
}

pause() { sleep "$1" 2>/dev/null || sleep 1; }

# list_processes: every nginx process into $processes, one a line:
# pid, parent, session, start (ticks since boot), kind (master worker retiring other), title.
# Only a command line that begins with the title counts, so offset 0 is asked for.
list_processes() {
    processes=$(grep -asobH '^nginx: [^[:cntrl:]]*' /proc/[0-9]*/cmdline </dev/null | awk '
        /^\/proc\/[0-9]+\/cmdline:0:/ {
            split($0, part, "/"); pid = part[3]
            title = $0; sub(/^[^:]*:0:/, "", title); sub(/ +$/, "", title)
            stat = "/proc/" pid "/stat"; line = ""
            if ((getline line < stat) <= 0) { close(stat); next }
            close(stat)
            sub(/^.*\) /, "", line); split(line, field, " ")
            if (field[1] == "Z" || field[1] == "X") next
            kind = "other"
            if (title == "nginx: worker process") kind = "worker"
            if (title == "nginx: worker process is shutting down") kind = "retiring"
            if (title ~ /^nginx: master process/) kind = "master"
            print pid, field[2], field[4], field[20], kind, title
        }')
}

# read_title PID TITLE: the command line of a master, which nginx keeps in the title. Sets m_word,
# m_config, m_prefix (empty when not said) and m_globals.
read_title() {
    m_word='' m_config='' m_prefix='' m_globals='' m_next=word
    set -f
    for m_part in ${2#nginx: master process}; do
        case $m_next:$m_part in
            word:*) m_word=$m_part m_next=option ;;
            config:*) m_config=$m_part m_next=option ;;
            prefix:*) m_prefix=$m_part m_next=option ;;
            *:-c) m_next=config ;;
            *:-p) m_next=prefix ;;
            *:-g) m_next=globals ;;
            *:-c?*) m_config=${m_part#-c} m_next=option ;;
            *:-p?*) m_prefix=${m_part#-p} m_next=option ;;
            *:-[a-zA-Z]*) m_next=option ;;
            globals:*) m_globals="$m_globals${m_globals:+ }$m_part" ;;
        esac
    done
    set +f
    m_said_prefix=$m_prefix m_said_config=$m_config
}

# find_program PID: sets m_exe, what to run as that very program.
find_program() {
    m_exe=/proc/$1/exe
    if [ "${RD_SUDO:-0}" = 1 ] || [ ! -x "$m_exe" ]; then
        m_link=$(readlink "$m_exe" 2>/dev/null) || m_link=
        m_exe=${set_binary:-${m_link% (deleted)}}
        [ -n "$m_exe" ] || m_exe=$(command -v "$m_word" 2>/dev/null || printf '%s' "$m_word")
    fi
}

# complete_title: what the command line did not say, from the program and its configuration: sets
# m_prefix, m_config, m_pid_file, m_log.
complete_title() {
    [ -n "$m_prefix" ] || m_prefix=$(built_in prefix)
    [ -n "$m_config" ] || m_config=$(built_in conf-path)
    beneath "$m_config"; m_config=$rd_path
    m_pid_file='' m_log=''
    while read -r m_key m_value; do
        case $m_key in pid) m_pid_file=$m_value ;; error_log) [ -n "$m_log" ] || m_log=$m_value ;; esac
    done <<VALUES
$(main_values)
VALUES
    [ -z "$set_pid_file" ] || m_pid_file=$set_pid_file
    [ -n "$m_pid_file" ] || m_pid_file=$(built_in pid-path)
    beneath "$m_pid_file"; m_pid_file=$rd_path
    beneath "$m_log"; m_log=$rd_path
}

# main_values: the values of `pid` and `error_log` that the configuration and `-g` give, one a
# line, in this order. Read from the main file only; where it cannot be read, what nginx was built
# with counts.
main_values() {
    if [ -r "$m_config" ]; then set -- - "$m_config"; else set -- -; fi
    printf '%s\n' "$m_globals" | awk '
        { sub(/#.*/, ""); count = split($0, part, ";")
          for (i = 1; i <= count; i++) {
              words = split(part[i], word, " ")
              if (words > 1 && (word[1] == "pid" || word[1] == "error_log") && (i < count)) {
                  gsub(/["\047]/, "", word[2]); print word[1], word[2] } } }' "$@"
}

# built_in KEY: what the program was built with (`nginx -V` says it).
built_in() { "$m_exe" -V 2>&1 </dev/null 9>&- | tr ' ' '\n' | sed -n "s|^--$1=||p" | head -n 1; }

# beneath PATH: a relative path as nginx reads it, beneath its prefix; in rd_path.
beneath() { case $1 in /* | '') rd_path=$1 ;; *) rd_path=${m_prefix%/}/$1 ;; esac; }

# named_in PIDFILE: the number in a pid file, or nothing; in rd_named.
named_in() {
    rd_named=
    [ ! -r "$1" ] || [ ! -f "$1" ] || read -r rd_named rd_rest < "$1"
    case $rd_named in *[!0-9]*) rd_named= ;; esac
}

# is_asked: true when the master described last is one the settings speak of.
is_asked() {
    [ -z "$set_config" ] || [ "$set_config" = "$m_config" ] || [ "$set_config" -ef "$m_config" ] || return 1
    [ -z "$set_prefix" ] || [ "$set_prefix" = "$m_prefix" ] || [ "$set_prefix" -ef "$m_prefix" ] || return 1
}

# find_master: the master that the reload would speak to. Sets master (0: none) and its
# description, master_why when there is none, and pid_state (ok missing stale) with pid_named: a
# reload goes to whatever process the pid file names, so it must name this very master.
find_master() {
    master=0 master_why='' pid_state=missing pid_named='' candidates='' m_pid_file='' m_parent=''
    masters=' '
    each_master note_master
    each_master consider
    # shellcheck disable=SC2086 # a list of numbers
    set -- $candidates
    if [ $# -ne 1 ]; then
        master_why="no running nginx master was found (all masters seen:$masters)"
        [ $# -eq 0 ] || master_why="several nginx masters run ($*): say which with pid_file or config"
        if [ -n "$set_pid_file" ]; then m_pid_file=$set_pid_file; judge_pid_file; fi
        return 1
    fi
    master=$1
    each_master describe_chosen
    judge_pid_file
    looks_like_nginx && return 0
    master_why="process $master does not run nginx's program" master=0
    return 1
}

# each_master FUNCTION: call it with the pid and the title of every master.
each_master() {
    while read -r p_pid p_parent p_session p_start p_kind p_title; do
        [ "$p_kind" != master ] || "$1" "$p_pid" "$p_title"
    done <<LIST
$processes
LIST
}

note_master() { masters="$masters$1 "; }

# consider PID TITLE: a master that the settings speak of, unless its pid file names another living
# master (the older one of a binary upgrade; or, with a pid file that is set, any other).
consider() {
    read_title "$1" "$2"
    if [ -n "$set_pid_file" ]; then
        named_in "$set_pid_file"
        if [ "$rd_named" = "$1" ]; then candidates="$candidates $1"; return 0; fi
    elif [ -n "$set_config" ] && [ -n "$m_config" ]; then
        is_asked_config || return 0
    fi
    find_program "$1"
    complete_title
    is_asked || return 0
    named_in "$m_pid_file"
    if [ "$rd_named" != "$1" ]; then case $masters in *" ${rd_named:-none} "*) return 0 ;; esac; fi
    candidates="$candidates $1"
}

# Settles the plain case without asking the program: another master's configuration.
is_asked_config() {
    case $m_config in /*) [ "$set_config" = "$m_config" ] || [ "$set_config" -ef "$m_config" ] ;; esac
}

describe_chosen() {
    [ "$1" = "$master" ] || return 0
    read_title "$1" "$2"
    find_program "$1"
    complete_title
    m_start=$p_start m_parent=$p_parent
}

judge_pid_file() {
    pid_state=stale
    named_in "$m_pid_file"
    pid_named=$rd_named
    [ -e "$m_pid_file" ] || pid_state=missing
    [ -z "$pid_named" ] || [ "$pid_named" != "$master" ] || pid_state=ok
}

# A title can be set by anybody; the program behind it must have the name it claims.
looks_like_nginx() {
    l_real=$(readlink "/proc/$master/exe" 2>/dev/null) || l_real=
    l_real=${l_real% (deleted)}
    if [ -n "$l_real" ]; then l_name=${l_real##*/}; else read -r l_name < "/proc/$master/comm" || return 1; fi
    case $l_name in *nginx* | openresty | tengine) return 0 ;; esac
    [ "$l_name" = "${m_word##*/}" ]
}

# why_not_ours: a reload may only ever signal the nginx master itself; in ours_why why it would
# not, or nothing.
why_not_ours() {
    ours_why=
    if [ "$pid_state" = stale ]; then
        ours_why="the pid file $m_pid_file names process ${pid_named:-?} ($(command_of "$pid_named")), which is not the running nginx master; a reload would signal that process"
    elif [ "$master" = 0 ]; then ours_why=$master_why
    elif [ "$pid_state" != ok ]; then
        ours_why="the pid file $m_pid_file is missing; nginx -s reload cannot work (the master is process $master)"
    fi
}

refuse_unless_ours() {
    why_not_ours
    [ -z "$ours_why" ] || refuse "$ours_why"
}

command_of() {
    c_text=$(tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline" | cut -c 1-60)
    printf '%s' "${c_text:-not running}"
}

# find_elsewhere: sets elsewhere to the workers without a master that run in another network than ours,
# a container's say, with blanks around each: nobody who connects to us reaches them, and no worker of
# ours ever leaves its network. Only where other masters are to be left out; and of whom that cannot be
# told (another user's) it is not.
find_elsewhere() {
    elsewhere=' '
    [ "$policy" = ignore ] && e_ours=$(readlink "/proc/$master/ns/net" 2>/dev/null) || return 0
    for e_pid in $(orphans worker retiring); do
        e_net=$(readlink "/proc/$e_pid/ns/net" 2>/dev/null) || continue
        [ "$e_net" = "$e_ours" ] || elsewhere="$elsewhere$e_pid "
    done
}

# orphans KIND...: of the workers of these kinds those whose master is gone.
orphans() {
    printf '%s\n' "$processes" | awk -v kinds=" $* " '
        { kind[$1] = $5; parent[$1] = $2 }
        END {
            for (p in parent)
                if (index(kinds, " " kind[p] " ") && kind[parent[p]] != "master") print p
        }'
}

# judge_workers SNAPSHOT: every worker that counts, one a line: pid, start, then
# current   belongs to our master and is not in the snapshot
# unretired is in the snapshot and still takes connections
# retiring  finishes what it has
# other     neither in the snapshot nor a child of our master (an orphan, another master's)
# A worker counts unless its master is a living one that a person has told us to ignore, or, where
# the person has, unless it runs in a container whose master has gone. Masters that started each
# other (a binary upgrade) are one.
judge_workers() {
    named_in "${m_pid_file:-/}.oldbin"
    j_old=$rd_named
    find_elsewhere
    # Not by `-v`, which would read the backslashes of a path.
    printf '%s\n' "$processes" | j_snapshot=$1 awk -v master="$master" -v old="${j_old:-0}" \
        -v policy="$policy" -v elsewhere="$elsewhere" '
        BEGIN {
            snapshot = ENVIRON["j_snapshot"]
            while (snapshot != "" && (getline line < snapshot) > 0)
                if (split(line, word, " ") == 3 && word[1] == "worker") listed[word[2] " " word[3]]
        }
        NF >= 5 { parent[$1] = $2; start[$1] = $4; kind[$1] = $5; pids[++count] = $1 }
        END {
            if (master in kind) related[master]
            if (old in kind) related[old]
            do {
                grew = 0
                for (i = 1; i <= count; i++) {
                    p = pids[i]
                    if (kind[p] != "master" || p in related) continue
                    joined = parent[p] in related
                    for (q in related) if (parent[q] == p) joined = 1
                    if (joined) { related[p]; grew = 1 }
                }
            } while (grew)
            for (i = 1; i <= count; i++) {
                p = pids[i]; up = parent[p]
                if (kind[p] != "worker" && kind[p] != "retiring") continue
                if (!(up in related) && policy == "ignore") {
                    if (up in kind && kind[up] == "master") continue
                    if (index(elsewhere, " " p " ")) continue
                }
                verdict = up in related ? "current" : "other"
                if ((p " " start[p]) in listed) verdict = "unretired"
                if (kind[p] == "retiring") verdict = "retiring"
                print p, start[p], verdict
            }
        }'
}

# count_workers SNAPSHOT: judges again; sets workers (the lines), n_current, n_unretired, n_earlier.
count_workers() {
    workers=$(judge_workers "$1")
    n_current=0 n_unretired=0 n_earlier=0 unretired=
    while read -r w_pid w_start w_verdict; do
        case $w_verdict in
            current) n_current=$((n_current + 1)) ;;
            unretired) n_unretired=$((n_unretired + 1)) n_earlier=$((n_earlier + 1)) unretired="$unretired $w_pid" ;;
            retiring) n_earlier=$((n_earlier + 1)) ;;
        esac
    done <<LIST
$workers
LIST
}

# Snapshots: generations/NAME holds, for the file whose digest it names, the workers that lived
# before the reload that was to load it. `sequence` orders them, `before` names the one replaced.

# find_snapshot DIGEST: sets snapshot to the path of the newest for that file, or nothing, and
# last_sequence to the highest there is.
find_snapshot() {
    snapshot='' last_sequence=0
    [ -d "$state/generations" ] || return 0
    read -r last_sequence snapshot <<FOUND
$(awk -v digest="digest=$1" '
        FNR == 1 { sequence = 0 }
        /^sequence=/ { sequence = substr($0, 10) + 0; if (sequence > last) last = sequence }
        $0 == digest && sequence >= best { best = sequence; name = FILENAME }
        END { print last + 0, name }' "$state"/generations/* 2>/dev/null </dev/null)
FOUND
    last_sequence=${last_sequence:-0}
}
