# service_commands: stopping and starting the process of one backend. Needs `service`.

# launch NAME LOG SKIP COUNT WORDS...: run the COUNT words after the first SKIP as a command, detached:
# in a session of its own, without our lock, locale, umask, ignored signals and channel. Sets
# launched (its pid and session) and launched_line. Its output goes to LOG; its note NAME, by which a
# look sees that it still runs, is there before it does anything, or it is not run.
launch() {
    launch_name=$1 launch_log=$state/$2 launch_skip=$3 launch_count=$4 launch_picked=0
    shift 4
    shift "$launch_skip"
    while [ "$launch_picked" -lt "$launch_count" ]; do
        set -- "$@" "$1"
        shift
        launch_picked=$((launch_picked + 1))
    done
    shift $(($# - launch_count))
    launched_line=$* launched_status=''
    # Not `:`: a redirection that fails would end the shell there.
    { true > "$launch_log"; } 2>/dev/null && write_in_place "$launch_name" - || return 1
    (
        trap - HUP PIPE
        # The lock is let go after the note: whoever comes next finds one of the two.
        find_start self && write_in_place "$launch_name" "${found_stat%% *}:$found_start" || exit 126
        exec 9>&-
        umask "$rd_umask"
        unset LC_ALL RD_SUDO
        if [ "$rd_had_locale" = yes ]; then LC_ALL=$rd_locale; export LC_ALL; fi
        exec setsid "$@"
    ) < /dev/null >> "$launch_log" 2>&1 &
    launched=$!
}

# has_ended: the launched command is over; its exit status is in launched_status (a word for the
# reader, never a proof).
has_ended() {
    find_start "$launched" && return 1
    if [ -z "$launched_status" ]; then
        wait "$launched"
        launched_status=$?
    fi
    return 0
}

# last_words LOG: what the command said, short enough for a message.
last_words() {
    last_said=$(tail -c 300 "$1" 2>/dev/null | tr '\n' ' ')
    [ -n "$last_said" ] && printf '; it said: %s' "$last_said"
}

# stop_service LIMIT_MS STATE_NOW SKIP COUNT WORDS...: returns when every process of the service is
# gone and the command has ended; never kills. STATE_NOW says what has been changed so far. A command
# that fails at once (sudo wants a password, say) does not get all of the limit, see `is_stop_refused`.
stop_service() {
    stop_limit=$1 stop_now=$2
    shift 2
    before=$(processes)
    find_listeners
    before_inodes=$listeners
    launch stopping stop.log "$@" || refuse "cannot write in $state; nothing was changed"
    stop_session=$launched
    now; stop_began=$now_cs stop_end=$((now_cs + stop_limit / 10)) refused_since='' is_signalled=0
    until is_stopped; do
        [ "$is_catalina" = 0 ] || end_what_stop_could_not
        now
        [ "$now_cs" -lt "$stop_end" ] || fail_to_stop
        if is_stop_refused; then
            refused_since=${refused_since:-$now_cs}
            [ "$now_cs" -lt $((refused_since + 200)) ] || fail_to_stop
        else refused_since=''; fi
        sleep 0.03
    done
}

# is_stop_refused: the command has ended with a bad status, and every process and listening socket is
# as before. Statuses prove nothing, so this has to stay so for 2 s.
is_stop_refused() {
    [ "$is_signalled" = 0 ] && has_ended && [ "$launched_status" != 0 ] || return 1
    for one in $before; do is_alive "$one" || return 1; done
    find_listeners
    [ "$listeners" = "$before_inodes" ] && [ -n "$before" ]
}

# Tomcat's script talks to the shutdown port, which is not open while Tomcat still starts (then it
# ends with 1) and may be switched off (then it complains, and ends with 0). The signal asks for the
# same orderly stop; sent to a Tomcat that has heard the script, it would cut that short.
end_what_stop_could_not() {
    has_ended || return 0
    [ "$launched_status" != 0 ] ||
        grep -q 'org.apache.catalina.startup.Catalina[. ]stopServer' "$state/stop.log" || return 0
    is_catalina=0 is_signalled=1
    for one in $before; do is_alive "$one" && kill -TERM "${one%%:*}" 2>/dev/null; done
}

# is_stopped: what is in the way is in left, still and launched_status, as this look found it.
is_stopped() {
    left='' still=''
    for one in $before; do is_alive "$one" && left="$left ${one%%:*}"; done
    [ -z "$left" ] || return 1
    has_ended || return 1
    # What the command left running counts again.
    stop_session=''
    still=$(processes)
    [ -z "$still" ] || return 1
    find_listeners
    for one in $before_inodes; do
        case $listeners in *" $one "*) return 1 ;; esac
    done
    return 0
}

# fail_to_stop: returns when the stop was over after all.
fail_to_stop() {
    ! is_stopped || return 0
    now
    if [ -n "$left" ]; then what="process$left$(words_of $left) is still running"
    elif [ -n "$still" ]; then what="process $(pids_of "$still")$(words_of $(pids_of "$still")) has come up while it was to be stopped (does something restart it?)"
    elif [ -z "$launched_status" ]; then what="the process is gone, but the stop command still runs (pid $launched)"
    else what="the process is gone, but its port $port is still listened on"; fi
    has_ended && [ "$launched_status" != 0 ] && stop_now="it ended with status $launched_status; $stop_now"
    fail "$what $(((now_cs - stop_began) / 100)) s after \`$launched_line\`; $stop_now; the stop may still take effect$(last_words "$state/stop.log")"
}

# words_of PID...: the command line of the first, where processes are found by a text that others may
# hold too.
words_of() {
    [ -n "$process" ] && [ "$exact" = 0 ] && [ $# -gt 0 ] || return 0
    said_words=$(tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline" | cut -c 1-100)
    [ -z "$said_words" ] || printf ' (`%s`)' "${said_words% }"
}

# fail_if_back STATE_NOW: a supervisor that restarts what was stopped would run half a swap.
fail_if_back() {
    back=$(processes)
    [ -z "$back" ] || fail "process $(pids_of "$back") has come up while the backend was stopped (does something restart it?); $1"
}

# start_service LIMIT_MS STATE_NOW SKIP COUNT WORDS...: run the command, return when the process exists (and
# none of $before is left, for a restart). Says pid and started.
start_service() {
    start_limit=$1 start_now=$2
    shift 2
    stop_session=''
    launch starting start.log "$@" || fail "cannot write in $state; $start_now"
    now; start_end=$((now_cs + start_limit / 10)) up_since='' refused_since=''
    until is_started; do
        now
        [ "$now_cs" -lt "$start_end" ] || fail_to_start
        [ -z "$refused_since" ] || [ "$now_cs" -lt $((refused_since + 200)) ] || fail_to_start
        sleep 0.03
    done
    # Without this note the one of the start command tells whose the processes are.
    ! write_note processes "$(processes | tr '\n' ' ')" || rm -f "$state/starting" "$state/stopping"
    say pid "${up%%:*}"
    say started "${up##*:}"
}

is_started() {
    for one in $before; do is_alive "$one" && return 1; done
    now
    up=
    # Where the port tells who it is, nobody is worth looking for before somebody listens.
    if [ -n "$process" ] || find_listeners; then up=$(processes); fi
    if [ -z "$up" ]; then
        up_since=''
        # Exit statuses prove nothing, but after a bad one the process gets 2 s, not all of the limit.
        if has_ended && [ "$launched_status" != 0 ]; then refused_since=${refused_since:-$now_cs}; fi
        return 1
    fi
    refused_since=''
    for up in $up; do break; done
    # A command that stays is the process itself; it must have lived for a second.
    up_since=${up_since:-$now_cs}
    has_ended || [ "$now_cs" -ge $((up_since + 100)) ]
}

fail_to_start() {
    left=''
    for one in $before; do is_alive "$one" && left="$left ${one%%:*}"; done
    if [ -n "$left" ]; then what="process$left from before is still running after \`$launched_line\`"
    elif [ -n "$process" ]; then what="no process has come up after \`$launched_line\`"
    else what="nothing listens on port $port after \`$launched_line\`"; fi
    has_ended && what="$what (exit status $launched_status)"
    fail "$what; $start_now$(last_words "$state/start.log")"
}
