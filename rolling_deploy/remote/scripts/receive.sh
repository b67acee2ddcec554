# Receives a file on stdin: TARGET MODE SIZE SHA256 SUFFIX [STATE_DIR EPOCH HOLDER].
#
# It is written beside the target under a dot-name of its own, checked, flushed to the disk and
# renamed, so the target name holds the old file or the whole new one at every instant. What an
# earlier receiver left behind when it was killed is recognised by its lock being free, and removed.
target=$1 mode=$2 size=$3 digest=$4
case $target in /*[!/]) ;; *) refuse "the target should be an absolute path of a file, is $target" ;; esac
[ ! -d "$target" ] || refuse "$target is a directory"
# Asked early, without the lock, so that nobody sends for nothing; what counts is `enter` below.
[ $# -lt 8 ] || refuse_if_fenced "$6" "$7" "$8"
# The lock is taken only once the whole file is here: an upload takes long, and a sender that stands
# still must not keep everybody else from this place.
lock_up() { [ $# -lt 8 ] || enter "$6" "$7" "$8"; }
folder=${target%/*}/
prefix=$folder.${target##*/}.rolling-deploy.
part=$prefix$5

# The reader may be gone already; what is to be tidied up is tidied up all the same.
trap '' PIPE
trap 'rm -f -- "$part"' EXIT
trap 'exit 1' HUP INT TERM

(umask 022 && mkdir -p -- "$folder") 2>/dev/null || fail "cannot create the directory $folder"
for stale in "$prefix"*; do
    [ ! -f "$stale" ] || flock -n "$stale" rm -f -- "$stale" || :
done

if [ "$(digest_of "$target")" = "$digest" ]; then
    lock_up "$@"
    problem=$(chmod -- "$mode" "$target" 2>&1) || fail "$problem"
    say skipped 1
    finish done "it is there already"
fi

# An artifact that does not fit ends here, with nothing under the target's name.
drop() { rm -f -- "$part"; fail "$1"; }
(set -C; : > "$part") 2>/dev/null || fail "cannot write in $folder"
exec 7>>"$part"
flock -n 7 || drop "another receiver took $part away"
problem=$(cat 2>&1 >&7) || drop "writing to $folder failed: ${problem##*: }"
arrived=$(wc -c < "$part")
[ "$arrived" -eq "$size" ] || drop "only $((arrived)) of $size bytes arrived"
is=$(digest_of "$part")
[ "$is" = "$digest" ] || drop "what arrived has the sha256 $is, should be $digest"
problem=$(chmod -- "$mode" "$part" 2>&1) || drop "$problem"
sync "$part" 2>/dev/null || sync || drop "the file could not be flushed to the disk"
lock_up "$@"
problem=$(mv -f -- "$part" "$target" 2>&1) || drop "$problem"
sync "$folder" 2>/dev/null || sync
finish done "received $size bytes"
