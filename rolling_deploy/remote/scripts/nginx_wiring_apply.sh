# with: nginx_settings nginx_processes nginx_publish nginx_wiring
# nginx_wiring_apply [PATH OLD NEW SIZE]..., the new texts on stdin one after the other: all files or
# none. OLD is a digest or `absent`. nginx is asked whether it accepts the result, and not reloaded.

# check_given: nothing may be in the way of any file, before one is touched.
check_given() {
    while [ $# -gt 0 ]; do
        why_closed "$1"
        [ -z "$closed" ] || refuse "$1 cannot be edited: $closed"
        shift 4
    done
}

# check_digests: every file must be the one that was seen.
check_digests() {
    while [ $# -gt 0 ]; do
        c_now=$(digest_of "$1")
        [ "$c_now" = "$2" ] || refuse "the file $1 is not the one that was seen (digest $c_now, should be $2)"
        shift 4
    done
}

# keep_all: the originals and the new texts into a folder of their own, named with the time.
keep_all() {
    k_stamp=$(date -u +%Y%m%dT%H%M%SZ) k_try=1
    kept=$setup/backups/$k_stamp
    mkdir -p -- "$setup/backups" || return 1
    until mkdir -- "$kept" 2>/dev/null; do
        k_try=$((k_try + 1))
        [ "$k_try" -le 20 ] || return 1
        kept=$setup/backups/$k_stamp-$k_try
    done
    k_number=0 k_from=1
    : > "$kept/list" || return 1
    while [ $# -gt 0 ]; do
        k_number=$((k_number + 1))
        real=$(readlink -f -- "$1") || return 1
        note_owner "$real"
        tail -c "+$k_from" "$taken" | head -c "$4" > "$kept/new-$k_number" || return 1
        [ "$(digest_of "$kept/new-$k_number")" = "$3" ] || return 1
        [ "$2" = absent ] || cp -p -- "$real" "$kept/$k_number-${real##*/}" || return 1
        [ "$2" = absent ] || [ "$(digest_of "$kept/$k_number-${real##*/}")" = "$2" ] || return 1
        printf '%s %s %s %s %s %s %s\n' "$k_number" "$2" "$3" "$o_mode" "${o_user:--}" "${o_group:--}" "$1" >> "$kept/list" || return 1
        k_from=$((k_from + $4))
        shift 4
    done
    sync "$kept"/* "$kept" "$setup/backups" 2>/dev/null || sync
}

begin_edit() {
    printf '%s\n' "$kept" > "$setup/.journal" || return 1
    settle_in "$setup/.journal"
    mv -f -- "$setup/.journal" "$setup/journal" && settle_in "$setup"
}

# fail_back REASON: put everything back, and say both.
fail_back() {
    if put_all_back; then fail "$1; every file is back as it was"; fi
    fail "$1; and not every file could be put back${foreign:+ (edited meanwhile:$foreign)}: the originals are in $kept"
}

trap '' HUP PIPE
take_in "$state" .wiring
lock_machine
list_processes
find_master || :
recover
refuse_unless_ours
check_given "$@"
check_digests "$@"
run_and_keep "$(test_words)" || refuse "nginx refuses the configuration as it is already: $(said)"
# The test took its time.
check_digests "$@"
keep_all "$@" || fail "cannot keep the originals in $setup; nothing was changed"
begin_edit || fail "cannot write in $setup; nothing was changed"
placed=0 n_edited=''
each_listed put_new || fail_back "cannot write ${real:-a file}$n_edited"
run_and_keep "$(test_words)" || fail_back "nginx refused the result: $(said)"
note_edited say_kept || fail_back "cannot write in $setup"
end_edit || fail "cannot write in $setup; the files are in place, the originals in $kept"
say kept "$kept"
finish done "nginx accepts the edited files and has not loaded them; the originals are in $kept"
