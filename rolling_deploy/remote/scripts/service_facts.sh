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

# say_unwritable PATH: with what a person could do about it: it is `absent`, or its group `NAME` may
# write, or neither.
say_unwritable() {
    say unwritable "$1"
    if [ ! -e "$1" ]; then say unwritable_as absent; return; fi
    set -- $(stat -L -c '%A %G' "$1")
    case $1 in ?????w*) say unwritable_as "group $2" ;; *) say unwritable_as other ;; esac
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
    say user "$(id -un)"
    find_running always
    if is_hidden "$running"; then say process hidden
    elif [ -n "$running" ]; then say process "$(pids_of "$running")"
    else say process none; fi
    for one in $strangers; do say stranger "$(words_of_process "${one%%:*}")"; done
    [ -z "$unsorted" ] || for one in $running; do say unsorted "$(words_of_process "${one%%:*}")"; done
    find_connected
    for one in $unlistened; do say unlistened "$one"; done
}

# words_of_process PID: the pid and how its command line begins.
words_of_process() {
    printf '%s `%s`' "$1" "$(tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline" | cut -c 1-100 | sed 's/ *$//')"
}
