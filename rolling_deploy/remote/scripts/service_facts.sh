# service_facts: what a preflight of any backend asks of its machine. Changes nothing.

# say_missing TOOL...: those that this machine lacks.
say_missing() {
    for tool; do command -v "$tool" > /dev/null 2>&1 || say missing "$tool"; done
}

# is_writable PATH: it is a directory we may write in, or one we may create.
is_writable() {
    nearest=$1
    while [ ! -e "$nearest" ] && [ "$nearest" != / ]; do nearest=$(dirname "$nearest"); done
    [ -d "$nearest" ] && [ -w "$nearest" ] && [ -x "$nearest" ]
}

free_kb() {
    nearest=$1
    while [ ! -e "$nearest" ] && [ "$nearest" != / ]; do nearest=$(dirname "$nearest"); done
    df -Pk "$nearest" 2>/dev/null | awk 'NR == 2 { print $4 }'
}

# say_service PROGRAM...: tools, state directory and process of any backend, and the programs of its
# commands.
say_service() {
    for program; do
        command -v "$program" > /dev/null 2>&1 || say program_missing "$program"
    done
    say_missing flock base64 sha256sum setsid awk stat cut cp mv sync
    is_writable "$state" || say state unwritable
    seen_now=$(processes)
    if is_hidden "$seen_now"; then say process hidden
    elif [ -n "$seen_now" ]; then say process "$(pids_of "$seen_now")"
    else say process none; fi
}
