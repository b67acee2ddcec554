# What every remote script of rolling-deploy begins with. POSIX sh; needs flock, base64 and
# sha256sum. Values reach a script as arguments only and are never pasted into its text.
#
# A script answers in lines `key=value`, ends with exactly one line `end=OUTCOME detail`, and
# whoever sent it believes nothing but these lines: a missing `end` means unknown.
set -u
# What the user's own commands get back (see `service.sh`): an application started with our
# locale and umask would write other files than before.
rd_umask=$(umask) rd_had_locale=${LC_ALL+yes} rd_locale=${LC_ALL-}
LC_ALL=C
export LC_ALL
umask 077

# say KEY VALUE: one line; line breaks in the value become blanks.
say() {
    case $2 in
        *[[:cntrl:]]*) printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr '\n\r' '  ')" ;;
        *) printf '%s=%s\n' "$1" "$2" ;;
    esac
}

# say64 KEY: everything on stdin, as one base64 value (key ends in `:`).
say64() { printf '%s:=' "$1"; base64 | tr -d '\n'; printf '\n'; }

finish() { say end "$1 ${2-}"; exit 0; }
refuse() { finish refused "$1"; }
fail() { finish failed "$1"; }

# The few commands that need root are run through this, with fixed arguments only.
privileged() { if [ "${RD_SUDO:-0}" = 1 ]; then sudo -n -- "$@"; else "$@"; fi; }

# digest_of FILE: its sha256, `absent`, or `unreadable` (which equals no digest).
digest_of() {
    if [ ! -e "$1" ]; then printf 'absent'
    elif [ -d "$1" ] || [ ! -r "$1" ]; then printf 'unreadable'
    else
        rd_sum=$(sha256sum < "$1")
        printf '%s\n' "${rd_sum%% *}"
    fi
}

# seen_fence DIR: prints `epoch holder` of the highest token this place has seen.
seen_fence() {
    find_fence "$1"
    [ -z "$seen_epoch" ] || printf '%s %s\n' "$seen_epoch" "$seen_holder"
}

# find_fence DIR: the same in seen_epoch and seen_holder; empty when it cannot be read. No process is
# started for it: a step on a machine is many small questions, and each fork is a millisecond.
find_fence() {
    seen_epoch=0 seen_holder=-
    [ -e "$1/fence" ] || return 0
    seen_epoch='' seen_holder=''
    { IFS=' ' read -r seen_epoch seen_holder < "$1/fence"; } 2>/dev/null || :
}

is_number() { case ${1:-x} in *[!0-9]*) return 1 ;; esac; }

# is_epoch TEXT: a number that every shell can compare; a longer one fails in `[`, as if it were lower.
is_epoch() { is_number "${1-}" && [ "${#1}" -le 15 ]; }

# refuse_unless_private DIR: what lies there decides what we do, under names that can be guessed. So
# it must belong to us or to root, and not everybody may write in it.
refuse_unless_private() {
    set -- "$1" "$(stat -L -c '%u %A' -- "$1" 2>/dev/null)"
    case $2 in
        '') refuse "cannot look at the state directory $1" ;;
        *' '????????w*) refuse "everybody may write in the state directory $1: \`chmod o-w\` it, or set \`state_dir\`" ;;
        '0 '*) return 0 ;;
    esac
    [ "${2%% *}" = "$(id -u)" ] ||
        refuse "the state directory $1 belongs to another user (uid ${2%% *}): \`chown\` it, or set \`state_dir\`"
}

# enter DIR EPOCH HOLDER [SECONDS]: take the lock of this place for as long as this script (and
# what it starts without closing descriptor 9) lives, and refuse a token lower than the highest
# seen. The token is raised under the lock, so of two operators exactly one goes on. A fence that
# cannot be read refuses everybody: taken as none, it would let an operator through who was
# already replaced.
enter() {
    is_epoch "$2" || refuse "the epoch should be a number of at most 15 digits, is $2"
    case $3 in '' | *'
'*) refuse "the holder should be one line, is '$3'" ;; esac
    command -v flock >/dev/null || refuse "there is no flock on this machine"
    [ -d "$1" ] || mkdir -p -- "$1" 2>/dev/null || refuse "cannot create the state directory $1"
    refuse_unless_private "$1"
    # Tried first: a failed redirection of exec (or of `:`) ends the whole shell, unanswered.
    { true 9>>"$1/lock"; } 2>/dev/null || refuse "cannot write in the state directory $1"
    exec 9>>"$1/lock"
    flock -w "${4:-10}" 9 || refuse "busy: an earlier command still runs here"
    refuse_if_fenced "$1" "$2" "$3"
    if [ "$2" -gt "$seen_epoch" ]; then raise_fence "$1" "$2 $3"; fi
}

# refuse_if_fenced DIR EPOCH HOLDER: end here when this place has seen a higher token.
refuse_if_fenced() {
    is_epoch "$2" || refuse "the epoch should be a number of at most 15 digits, is $2"
    find_fence "$1"
    is_epoch "$seen_epoch" || refuse "the fence $1/fence cannot be read"
    if [ "$2" -lt "$seen_epoch" ] || { [ "$2" -eq "$seen_epoch" ] && [ "$3" != "$seen_holder" ]; }; then
        say fenced "$seen_epoch $seen_holder"
        refuse "somebody else has taken over (epoch $seen_epoch, $seen_holder)"
    fi
}

# take_in DIR NAME: all of stdin into a file of this script's own, DIR/NAME.PID; its path in taken.
# Done before `enter`: a sender that stands still in the middle keeps nobody else from this place,
# and when it goes on it meets the fence. What killed scripts left behind is removed.
take_in() {
    [ -d "$1" ] || mkdir -p -- "$1" 2>/dev/null || refuse "cannot create the state directory $1"
    refuse_unless_private "$1"
    for taken in "$1/$2".*; do
        [ ! -e "$taken" ] || [ -d "/proc/${taken##*.}" ] || rm -f -- "$taken"
    done
    taken=$1/$2.$$
    trap '[ ! -e "$taken" ] || rm -f -- "$taken"' EXIT
    { cat > "$taken"; } 2>/dev/null || fail "cannot write in $1; nothing was changed"
}

# raise_fence DIR TOKEN: replace the fence, whole or not at all, on the disk before we go on.
raise_fence() {
    { printf '%s\n' "$2" > "$1/.fence"; } 2>/dev/null || refuse "cannot write the fence in $1"
    sync "$1/.fence" 2>/dev/null || sync
    mv -f -- "$1/.fence" "$1/fence" || refuse "cannot write the fence in $1"
    sync "$1" 2>/dev/null || sync
}

# is_busy DIR: true while a script that entered DIR still runs, or when that cannot be told. The
# lock is only shared for the question, so that two who ask do not take each other for busy.
is_busy() { [ -e "$1/lock" ] && { ! flock -s -n 7 7<"$1/lock"; } 2>/dev/null; }

# end_with_channel: end this script, and what it waits for, when whoever sent it closes the
# channel. For waits that change nothing; needs stdin held open by the sender.
end_with_channel() {
    exec 8<&0
    rd_self=$$
    (
        cat <&8
        # The whole group where we lead one (sshd starts every command so), else this shell.
        # No `--` here: dash takes that for a process.
        kill -TERM "-$rd_self" || kill -TERM "$rd_self"
    ) 9>&- >/dev/null 2>&1 &
    rd_watch=$!
    trap 'kill "$rd_watch" 2>/dev/null' EXIT
}
