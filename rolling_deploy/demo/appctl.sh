#!/bin/sh
# appctl DIR start|stop|restart|status: one instance of the demo application.
#
# DIR holds `instance.env` (PYTHON, NAME, PORT, REDIS, START_DELAY_MS, and BIND where it is not
# 127.0.0.1 that it listens on) and the `current` link.
# `start` returns once the process runs, long before it answers, as a service manager does;
# `stop` returns when the process is gone.
set -u
dir=$1
cd "$dir" || exit 2
. ./instance.env
pid_file=$dir/run/app.pid
stop_limit_s=40

# exists PID: it is a process and not a zombie.
exists() {
    stat=
    { read -r stat < "/proc/$1/stat"; } 2>/dev/null || return 1
    case $stat in *') Z '*) return 1 ;; esac
}

# is_ours PID: a pid file proves nothing, the number may be another process's by now.
is_ours() {
    exists "$1" && tr '\0' ' ' < "/proc/$1/cmdline" 2>/dev/null | grep -q -- "--port $PORT "
}

# running: sets pid to the instance's process, or fails.
running() {
    pid=
    [ -s "$pid_file" ] && read -r pid < "$pid_file" && is_ours "$pid"
}

start() {
    if running; then echo "$NAME already runs (pid $pid)"; return 0; fi
    [ -e current/app.py ] || { echo "no release at $dir/current" >&2; return 1; }
    release=$(readlink -f current)
    export START_DELAY_MS BIND="${BIND:-127.0.0.1}"
    # A real path, not the link: what a process was started from must not change under it.
    setsid "$PYTHON" -I -S "$release/app.py" --port "$PORT" --redis "$REDIS" --name "$NAME" \
        --version-file "$release/VERSION" --events "$dir/log/events.log" \
        </dev/null >>"$dir/log/app.log" 2>&1 &
    pid=$!
    echo "$pid" > "$pid_file"
    # Until it has become the application, a `stop` would not know it.
    until is_ours "$pid"; do
        exists "$pid" || { echo "$NAME did not start, see $dir/log/app.log" >&2; return 1; }
        sleep 0.01
    done
}

stop() {
    running || { rm -f "$pid_file"; return 0; }
    kill -TERM "$pid"
    waits=$((stop_limit_s * 50))
    while exists "$pid"; do
        waits=$((waits - 1))
        [ "$waits" -gt 0 ] || { echo "$NAME (pid $pid) does not end" >&2; return 1; }
        sleep 0.02
    done
    rm -f "$pid_file"
}

case ${2-} in
    start) start ;;
    stop) stop ;;
    restart) stop && start ;;
    status) if running; then echo "$NAME runs (pid $pid)"; else echo "$NAME is stopped"; exit 3; fi ;;
    *) echo "usage: appctl DIR start|stop|restart|status" >&2; exit 2 ;;
esac
