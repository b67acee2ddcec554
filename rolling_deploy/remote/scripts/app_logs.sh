# app_logs TAIL (FIRST LAST)...: which file each log is now. A log is FIRST, a date (2026-11-23) and
# LAST put together, the newest of them; or FIRST alone where LAST is `/`. Reads only, without root.
#
# Per log number N: `is_N=INODE END PATH`, where END is behind its last line end, or `no_N=REASON`; and,
# with TAIL above 0, `tail_N:=` (compressed where gzip is there, as `packed` says): its last TAIL bytes.
tail_bytes=$1
shift
if command -v gzip >/dev/null 2>&1; then say packed gzip; pack() { gzip -1 -c; }
else say packed none; pack() { cat; }; fi

# newest FIRST LAST: sets file to the newest of the dated files, by their names.
newest() {
    file=$1'YYYY-MM-DD'$2
    for n_file in "$1"[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"$2"; do
        [ -e "$n_file" ] && file=$n_file
    done
}

# line_end FILE: sets end to the offset behind its last line end: a process that was killed may have
# left half a line. One longer than 64 KiB is taken as it is.
line_end() {
    end=$(stat -L -c %s -- "$1")
    [ "$end" -gt 0 ] || return 0
    [ "$(tail -c "+$end" -- "$1" | head -c 1 | wc -l)" -eq 0 ] || return 0
    l_from=$((end > 65536 ? end - 65536 : 0))
    l_half=$(tail -c "+$((l_from + 1))" -- "$1" | head -c "$((end - l_from))" | tail -n 1 | wc -c)
    end=$((end - l_half))
}

number=0
while [ $# -ge 2 ]; do
    if [ "$2" = / ]; then file=$1; else newest "$1" "$2"; fi
    shift 2
    if [ ! -e "$file" ]; then say "no_$number" "there is no $file, or it cannot be seen"
    elif [ ! -f "$file" ]; then say "no_$number" "$file is no file"
    elif [ ! -r "$file" ]; then say "no_$number" "$file cannot be read: permission denied"
    else
        line_end "$file"
        say "is_$number" "$(stat -L -c %i -- "$file") $end $file"
        if [ "$tail_bytes" -gt 0 ]; then
            tail -c "$tail_bytes" -- "$file" | pack | say64 "tail_$number"
        fi
    fi
    number=$((number + 1))
done
finish done ''
