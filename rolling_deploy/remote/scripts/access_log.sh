# access_log BYTES (PATH POSITIONS)...: what was written to each log since it was last read. A
# position is INODE:OFFSET; POSITIONS holds those of the log and, after a rotation, of the one before
# (which nginx writes to until it has opened the new one), newest first; empty says only where it
# ends. At most BYTES of each come in one answer. Reads only, without root.
#
# Per log number N: `now_N=INODE SIZE` or `no_N=REASON`, and per position either `from_N=POSITION SIZE`
# and `data_N:=` (compressed where gzip is there, as `packed` says), or `lost_N=POSITION REASON`. Data
# begins one byte before the offset: by the line end there whoever reads it sees that it is still the
# same file.
most=$1
shift
if command -v gzip >/dev/null 2>&1; then say packed gzip; pack() { gzip -1 -c; }
else say packed none; pack() { cat; }; fi

# find_inode INODE PATH: the file of this inode under the log's name or one that a rotation gives it.
find_inode() {
    for i_file in "$2" "$2".[0-9]* "$2"-* "${2%.*}"-* "${2%.*}".[0-9]*; do
        [ -f "$i_file" ] && [ "$(stat -L -c %i -- "$i_file" 2>/dev/null)" = "$1" ] || continue
        printf '%s' "$i_file"
        return 0
    done
    return 1
}

read_on() {
    r_inode=${1%%:*} r_offset=${1##*:}
    is_number "$r_inode" && is_number "$r_offset" || { say "lost_$number" "$1 no position"; return 0; }
    r_file=$(find_inode "$r_inode" "$2") || { say "lost_$number" "$1 the file is gone"; return 0; }
    [ -r "$r_file" ] || { say "lost_$number" "$1 permission denied"; return 0; }
    r_size=$(stat -L -c %s -- "$r_file")
    [ "$r_size" -ge "$r_offset" ] || { say "lost_$number" "$1 the file was cut short"; return 0; }
    say "from_$number" "$1 $r_size"
    r_first=$r_offset r_most=$most
    if [ "$r_offset" -gt 0 ]; then r_first=$((r_offset - 1)) r_most=$((most + 1)); fi
    tail -c "+$((r_first + 1))" -- "$r_file" | head -c "$r_most" | pack | say64 "data_$number"
}

# say_between FILE PATH: files that were rotated after FILE and are not the log itself, oldest not
# known: nobody has a position in them yet.
say_between() {
    b_now=$(stat -L -c %i -- "$2" 2>/dev/null)
    for b_file in "$2".[0-9]* "$2"-[0-9]* "${2%.*}"-[0-9]* "${2%.*}".[0-9]*; do
        [ -f "$b_file" ] && [ "$b_file" -nt "$1" ] || continue
        b_inode=$(stat -L -c %i -- "$b_file")
        case " $b_now: $positions" in *" $b_inode:"*) continue ;; esac
        case $b_file in
            *.gz | *.bz2 | *.xz | *.zst) say "lost_$number" "$newest $b_file is compressed" ;;
            *) say "between_$number" "$b_inode" ;;
        esac
    done
}

number=0
while [ $# -ge 2 ]; do
    path=$1 positions=$2
    shift 2
    if [ ! -e "$path" ]; then
        # In the middle of a rotation; the one before is read all the same.
        say "no_$number" "there is no $path, or it cannot be seen"
    elif [ ! -f "$path" ]; then say "no_$number" "$path is no file"
    elif [ ! -r "$path" ]; then say "no_$number" "$path cannot be read: permission denied"
    else say "now_$number" "$(stat -L -c '%i %s' -- "$path")"; fi
    for position in $positions; do read_on "$position" "$path"; done
    newest=${positions%% *}
    if [ -n "$newest" ] && file=$(find_inode "${newest%%:*}" "$path") && [ "$file" != "$path" ]
    then say_between "$file" "$path"; fi
    number=$((number + 1))
done
finish done ''
