# Editing files of nginx's configuration, all of them or none, without a reload. Under the lock.
#
# $setup/journal names the folder of an edit that has begun and not ended. In that folder: `list`,
# one line `N OLD NEW MODE USER GROUP PATH` for each file, the originals as `N-NAME`, the new texts as
# `new-N`. $setup/edited says what was edited, for whoever judges what waits to be loaded.
setup=$state/setup

# lock_machine: as `enter`, without a fence: the digests of the files say who came first.
lock_machine() {
    command -v flock >/dev/null || refuse "there is no flock on this machine"
    [ -d "$setup" ] || mkdir -p -- "$setup" 2>/dev/null || refuse "cannot create the state directory $setup"
    refuse_unless_private "$state"
    { true 9>>"$state/lock"; } 2>/dev/null || refuse "cannot write in the state directory $state"
    exec 9>>"$state/lock"
    flock -w 10 9 || refuse "busy: an earlier command still runs here"
}

# why_closed PATH: why we could not write it, or nothing. Sets real and what note_owner sets.
why_closed() {
    closed='' real=$(readlink -f -- "$1") || real=
    [ -n "$real" ] || { real=$1 closed="cannot tell where it leads"; return; }
    folder=${real%/*}
    [ -d "${folder:-/}" ] || { closed="the folder $folder does not exist"; return; }
    note_owner "$real"
    if [ -e "$real" ]; then
        [ -f "$real" ] && [ -r "$real" ] || { closed="it cannot be read"; return; }
    fi
    beside=$folder/.${real##*/}.rolling-deploy
    if [ "${RD_SUDO:-0}" = 1 ]; then
        closed_to_sudo
    elif [ ! -w "${folder:-/}" ] || [ ! -x "${folder:-/}" ]; then
        closed="the folder $folder cannot be written"
    elif [ -e "$real" ] && [ ! -O "$real" ] && [ "$(id -u)" != 0 ]; then
        closed="it belongs to another user, who would lose it"
    fi
}

# closed_to_sudo: asks sudo for the very words that `put` and `take_away` run.
closed_to_sudo() {
    set -- install -m "$o_mode" -o "$o_user" -g "$o_group" "$state/.incoming" "$beside"
    sudo -n -l -- "$@" >/dev/null 2>&1 </dev/null || note_closed "$@"
    set -- mv -f "$beside" "$real"
    sudo -n -l -- "$@" >/dev/null 2>&1 </dev/null || note_closed "$@"
    [ ! -e "$real" ] || return 0
    set -- rm -f "$real"
    sudo -n -l -- "$@" >/dev/null 2>&1 </dev/null || note_closed "$@"
}

note_closed() {
    s_path=$(command -v -- "$1" 2>/dev/null) || s_path=$1
    shift
    closed="${closed:+$closed, }sudo does not allow \`$s_path $*\` to $(id -un)"
}

# put SOURCE: SOURCE's bytes become $real, with the owner and mode noted last. A name with a dot
# beside it first, which no pattern of nginx sees, then one rename.
put() {
    beside=${real%/*}/.${real##*/}.rolling-deploy
    if [ "${RD_SUDO:-0}" = 1 ]; then
        cp -- "$1" "$state/.incoming" || return 1
        privileged install -m "$o_mode" -o "$o_user" -g "$o_group" "$state/.incoming" "$beside" </dev/null || return 1
    else
        cp -- "$1" "$beside" && chmod "$o_mode" "$beside" || { rm -f -- "$beside"; return 1; }
        if [ -n "$o_user" ] && [ "$(stat -c '%u %g' "$beside")" != "$o_user $o_group" ]; then
            chown "$o_user:$o_group" "$beside" || { rm -f -- "$beside"; return 1; }
        fi
    fi
    settle_in "$beside"
    privileged mv -f "$beside" "$real" </dev/null
}

# each_listed FUNCTION: call it for every file of the edit in $kept; its line is in l_*. Stops at
# the first that fails.
each_listed() {
    while read -r l_number l_old l_new o_mode o_user o_group l_path; do
        [ "$o_user" != - ] || o_user='' o_group=''
        real=$(readlink -f -- "$l_path") || return 1
        "$1" || return 1
    done < "$kept/list"
}

# put_new: looked at once more just before; a person, or another application's setup, asks no lock
# of ours.
put_new() {
    [ "$(digest_of "$real")" = "$l_old" ] || { n_edited=" (it was edited just now)"; return 1; }
    placed=$l_number
    put "$kept/new-$l_number" && settle_in "${real%/*}"
}

# settle_in PATH: on the disk, as far as the machine can say so.
settle_in() { sync "$1" 2>/dev/null || :; }

# put_old: a file that has our new text gets its original back; one that somebody edited is theirs.
# Files after the last one that we came to are nothing of ours.
put_old() {
    [ -z "${placed-}" ] || [ "$l_number" -le "$placed" ] || return 0
    [ "${RD_SUDO:-0}" = 1 ] || rm -f -- "${real%/*}/.${real##*/}.rolling-deploy"
    l_now=$(digest_of "$real")
    [ "$l_now" != "$l_old" ] || return 0
    [ "$l_now" = "$l_new" ] || { foreign="$foreign $real"; return 0; }
    if [ "$l_old" = absent ]; then privileged rm -f "$real" </dev/null
    else
        put "$kept/$l_number-${real##*/}" || return 1
        # With its own time: nobody takes it for an edit that nginx has not loaded.
        [ "${RD_SUDO:-0}" = 1 ] || touch -c -r "$kept/$l_number-${real##*/}" "$real" 2>/dev/null || :
    fi || return 1
    [ "$(digest_of "$real")" = "$l_old" ] && settle_in "${real%/*}"
}

put_all_back() {
    foreign=''
    each_listed put_old && [ -z "$foreign" ] && note_edited say_back && end_edit
}

# end_edit: from here on the edit counts as ended, however its files are.
end_edit() { rm -f -- "$setup/journal" && settle_in "$setup"; }

# note_edited FUNCTION: what it says lies there as we left it, beside what earlier edits wrote; whole or
# not at all.
note_edited() {
    {
        each_listed "$1"
        if [ -e "$setup/edited" ]; then cat "$setup/edited"; fi
    } > "$setup/.edited" && awk '
        { key = $0; sub(/^[^ ]+ [^ ]+ /, "", key); key = $1 " " key }
        !(key in seen) { seen[key]; print }' "$setup/.edited" > "$setup/.edited.new" || return 1
    settle_in "$setup/.edited.new"
    rm -f -- "$setup/.edited"
    mv -f -- "$setup/.edited.new" "$setup/edited"
}

# say_back: a file that is back is written later than nginx read it, where its time could not be
# given back too; and so are the folders.
say_back() {
    for n_path in "$l_path" "$real"; do
        [ "$l_old" = absent ] || [ "${RD_SUDO:-0}" != 1 ] || printf 'file %s %s\n' "$l_old" "$n_path"
        printf 'folder %s %s\n' "$(stat -L -c %.9Y "${n_path%/*}")" "${n_path%/*}"
    done
}

say_kept() {
    [ "$(digest_of "$real")" = "$l_new" ] || return 0
    for n_path in "$l_path" "$real"; do
        printf 'file %s %s\n' "$l_new" "$n_path"
        printf 'folder %s %s\n' "$(stat -L -c %.9Y "${n_path%/*}")" "${n_path%/*}"
    done
}

# say_edited: the files and folders of earlier edits that nobody touched since, as `edited` lines.
say_edited() {
    [ -r "$setup/edited" ] || return 0
    n_after='' n_others='' n_folder=''
    { read -r n_after n_others n_folder < "$state/.folder"; } 2>/dev/null || :
    while read -r e_kind e_mark e_path; do
        case $e_kind in
            file) e_now=$(digest_of "$e_path") ;;
            *)
                e_now=$(stat -L -c %.9Y "$e_path" 2>/dev/null)
                # Written since by a publication of ours, and before that as we left it.
                if [ "$e_now" = "$n_after" ] && [ "$n_folder" -ef "$e_path" ]; then e_now=$n_others; fi ;;
        esac
        [ "$e_now" != "$e_mark" ] || say edited "$e_path"
    done < "$setup/edited"
}

count_listed() {
    case $(digest_of "$real") in
        "$l_new") n_new=$((n_new + 1)) ;;
        "$l_old") n_old=$((n_old + 1)) ;;
        *) n_foreign="$n_foreign $real" ;;
    esac
}

# recover: bring an edit that died in the middle to an end. All files new and good in nginx's eyes:
# it had succeeded. A file that somebody edited since stays; then the whole must be good in nginx's
# eyes, or a person decides. Otherwise every file is put back.
recover() {
    [ -e "$setup/journal" ] || return 0
    kept=$(cat "$setup/journal")
    [ -r "$kept/list" ] || refuse "$setup/journal names $kept, which cannot be read"
    n_new=0 n_old=0 n_foreign=''
    each_listed count_listed || refuse "an earlier setup ended in the middle, and its files in $kept/list are not all to be found"
    if [ "$n_old" = 0 ] || [ -n "$n_foreign" ]; then
        if [ "$master" != 0 ] && [ "$pid_state" = ok ] && run_and_keep "$(test_words)"; then
            note_edited say_kept && end_edit || fail "cannot write in $setup"
            if [ -z "$n_foreign" ]; then r_said="an earlier setup ended before it could say so: its files are in place"
            else r_said="an earlier setup ended in the middle, and somebody edited$n_foreign since: all files stay as they are"; fi
            say recovered "$r_said; the originals are in $kept"
            return 0
        fi
        [ -z "$n_foreign" ] || refuse "an earlier setup ended in the middle, and somebody edited$n_foreign since: nginx refuses the configuration as it is; put it right by hand (the originals are in $kept), then run it again"
    fi
    put_all_back || fail "an earlier setup ended in the middle, and its files could not be put back; the originals are in $kept"
    say recovered "an earlier setup ended in the middle: its files are back as they were"
}
