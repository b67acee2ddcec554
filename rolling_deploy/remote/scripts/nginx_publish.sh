# Putting a file in place, testing, reloading and proving it. Under the lock and the fence.

# run_words WORDS: a command given as one word a line, without our lock, our input and, for its
# own good, for ever. Through sudo where the machine asks for it.
run_words() {
    set -f
    r_ifs=$IFS IFS=$newline
    set -- $1
    IFS=$r_ifs
    set +f
    if [ "${RD_SUDO:-0}" = 1 ]; then case $1 in sudo | doas) ;; *) set -- sudo -n -- "$@" ;; esac; fi
    if command -v timeout >/dev/null 2>&1; then set -- timeout 60 "$@"; fi
    (
        # With the umask and locale of whoever logged in: nginx's test creates missing log files.
        umask "$rd_umask"
        unset LC_ALL RD_SUDO
        if [ "$rd_had_locale" = yes ]; then LC_ALL=$rd_locale; export LC_ALL; fi
        exec "$@"
    ) </dev/null 2>&1 9>&-
}

# run_and_keep WORDS: the same; its words are kept for `said`. Not through a pipe, because a process
# it leaves behind would hold a pipe open, and us with it. Where they cannot be kept it runs all the
# same: a redirection that failed would pass for a command that did.
run_and_keep() {
    said_in=$state/.said
    { true > "$said_in"; } 2>/dev/null || said_in=/dev/null
    run_words "$1" > "$said_in"
}

said() {
    if [ "$said_in" = /dev/null ]; then printf 'its words could not be kept in %s' "$state"
    else head -c 4000 "$said_in"; fi
}

# master_words: the running master's program and the options it was started with, one word a line.
master_words() {
    printf '%s\n' "${set_binary:-$m_exe}"
    w_prefix=${set_prefix:-$m_said_prefix} w_config=${set_config:-$m_said_config}
    [ -z "$w_prefix" ] || printf '%s\n' -p "$w_prefix"
    [ -z "$w_config" ] || printf '%s\n' -c "$w_config"
    # Debian's unit says `-g 'daemon on; master_process on;'`, which matters to a start only.
    w_globals=$m_globals
    [ -z "$w_globals" ] || w_globals=$(printf '%s' "$m_globals" | sed 's/daemon  *[a-z]*;//g; s/master_process  *[a-z]*;//g; s/^ *//')
    [ -z "$w_globals" ] || printf '%s\n' -g "$w_globals"
}

test_words() { if [ -n "$set_test" ]; then printf '%s' "$set_test"; else master_words; printf '%s' -t; fi; }

# systemd_unit: the nginx unit that the running master belongs to, where systemd runs it.
systemd_unit() {
    read -r u_first < /proc/1/comm || return 1
    [ "$u_first" = systemd ] && command -v systemctl >/dev/null 2>&1 || return 1
    u_unit=$(sed -n 's|.*/\(nginx[^/]*\)\.service$|\1|p' "/proc/$master/cgroup" 2>/dev/null | head -n 1)
    [ -n "$u_unit" ] && printf '%s' "$u_unit"
}

reload_words() {
    if [ -n "$set_reload" ]; then printf '%s' "$set_reload"
    elif w_unit=$(systemd_unit); then printf '%s\n' systemctl reload "$w_unit"
    else master_words; printf '%s\n' -s reload; fi
}

# note_owner PATH: sets o_mode, o_user, o_group; what a new file gets when there is none. With sudo
# that is what it will have, so that the command is the same from the first time on.
note_owner() {
    o_mode=644 o_user='' o_group=''
    [ "${RD_SUDO:-0}" != 1 ] || o_user=0 o_group=0
    [ -e "$1" ] || return 0
    read -r o_mode o_user o_group <<OWNER
$(stat -L -c '%a %u %g' "$1")
OWNER
}

# place SOURCE REPLACES: SOURCE's bytes become the managed file, with the owner and mode noted last. A
# dot-name beside it first (nginx's include is a glob and does not see it), then one rename. With
# sudo the source has one name whatever it is, so that preflight can ask for these very words.
# Answers 2, with the reason in theirs, when the file is not the one of the digest REPLACES.
place() {
    d_beside=${real%/*}/.${real##*/}.rolling-deploy
    d_before=$(stat -c %.9Y "${real%/*}" 2>/dev/null)
    if [ "${RD_SUDO:-0}" = 1 ]; then
        if [ "$1" = "$state/original" ]; then cp "$1" "$state/.incoming"; else mv -f "$1" "$state/.incoming"; fi || return 1
        privileged install -m "$o_mode" -o "$o_user" -g "$o_group" "$state/.incoming" "$d_beside" </dev/null || return 1
    else
        cp "$1" "$d_beside" && chmod "$o_mode" "$d_beside" || { drop_beside; return 1; }
        if [ -n "$o_user" ] && [ "$(stat -c '%u %g' "$d_beside")" != "$o_user $o_group" ]; then
            chown "$o_user:$o_group" "$d_beside" || { drop_beside; return 1; }
        fi
    fi
    sync "$d_beside" 2>/dev/null
    if ! still_is "$2"; then
        exec 8<&-
        drop_beside
        theirs="somebody changed $file in this very moment; it is left as they saved it"
        return 2
    fi
    privileged mv -f "$d_beside" "$real" </dev/null || { exec 8<&-; return 1; }
    note_folder
    # The directory's own sync runs beside nginx's test; `settle` waits for it.
    sync "${real%/*}" >/dev/null 2>&1 8<&- 9>&- &
    d_syncing=$!
    give_back_a_late_save "$2"
}

# still_is DIGEST: asked last of all before the rename, since people take no lock. Descriptor 8 is
# the file that is about to be replaced. Only a rename of theirs between here and ours is not seen.
still_is() {
    exec 8</dev/null
    if [ "$1" = absent ]; then [ ! -e "$real" ]; return; fi
    { true < "$real"; } 2>/dev/null || return 1
    exec 8< "$real"
    [ "$(digest_of /proc/self/fd/8)" = "$1" ] && [ "$real" -ef /proc/self/fd/8 ]
}

# give_back_a_late_save DIGEST: whoever wrote into the old file while it was being replaced finds it
# as they saved it; answers 2 then. A moment first, for an editor that is still writing.
give_back_a_late_save() {
    if [ "$1" = absent ] || [ "$(digest_of /proc/self/fd/8)" = "$1" ]; then exec 8<&-; return 0; fi
    pause 0.2
    settle
    cat < /proc/self/fd/8 > "$state/edited-meanwhile" && cp "$state/edited-meanwhile" "$state/.meanwhile"
    g_status=$?
    note_owner /proc/self/fd/8
    exec 8<&-
    if [ "$g_status" = 0 ] && place "$state/.meanwhile" "$ours"; then
        theirs="somebody changed $file in this very moment; it is as they saved it"
    else theirs="somebody changed $file in this very moment; what they saved is in $state/edited-meanwhile"; fi
    rm -f "$state/.meanwhile"
    return 2
}

# publish SOURCE: place it, or end here with the file as it was; ours is SOURCE's digest.
publish() {
    place "$1" "$replaced"
    case $? in
        0) placed=1 ;;
        2) refuse "$theirs" ;;
        *) fail "cannot write $real; it is unchanged" ;;
    esac
}

drop_beside() { rm -f "$d_beside" 2>/dev/null; note_folder; }

# note_folder: in $state/.folder the directory's time of writing as we leave it, and the one it had
# from others, so that a preflight does not take us for somebody who removed a file there.
note_folder() {
    d_after=$(stat -c %.9Y "${real%/*}" 2>/dev/null)
    n_after='' n_others='' n_folder=''
    { read -r n_after n_others n_folder < "$state/.folder"; } 2>/dev/null || :
    if [ "$n_after" = "$d_before" ] && [ "$n_folder" = "${real%/*}" ]; then d_before=$n_others; fi
    { printf '%s %s %s\n' "$d_after" "$d_before" "${real%/*}" > "$state/.folder"; } 2>/dev/null || :
}

settle() { [ -z "${d_syncing-}" ] || wait "$d_syncing"; d_syncing=; }

# keep SOURCE NAME: a copy in the state directory with the owner and mode it had, whole or absent.
keep() {
    cp "$1" "$state/.$2" && stat -L -c '%a %u %g' "$1" > "$state/.$2.owner" || return 1
    sync "$state/.$2" "$state/.$2.owner" 2>/dev/null
    mv -f "$state/.$2.owner" "$state/$2.owner" && mv -f "$state/.$2" "$state/$2"
}

# is_stamped: what is on disk is a text of ours, as it was or edited.
is_stamped() { grep -q -e '^# rolling-deploy stamp ' -e '^# Tells rolling-deploy ' "$real"; }

# take_snapshot NAME DIGEST BEFORE: every worker among $processes, under NAME.
take_snapshot() {
    [ -d "$state/generations" ] || mkdir -p "$state/generations" || return 1
    t_workers=$(judge_workers '')
    {
        printf 'sequence=%s\ndigest=%s\nbefore=%s\n' $((last_sequence + 1)) "$2" "$3"
        while read -r w_pid w_start w_verdict; do
            [ -z "$w_pid" ] || printf 'worker %s %s\n' "$w_pid" "$w_start"
        done <<LIST
$t_workers
LIST
    } 2>/dev/null > "$state/generations/.$1" && mv -f "$state/generations/.$1" "$state/generations/$1"
}

# The oldest snapshots go once there are many: the newer ones tell which workers are earlier.
prune_snapshots() {
    set -- "$state"/generations/*
    [ $# -gt 60 ] || return 0
    grep -s '^sequence=' "$@" </dev/null | sed 's/^\(.*\):sequence=\(.*\)$/\2 \1/' |
        sort -rn | tail -n +41 | cut -d ' ' -f 2- | while read -r t_name; do rm -f "$t_name"; done
}

# find_error_log: its path and its length now, so that only what is new is shown later.
find_error_log() {
    log=$m_log
    log_from=1
    [ ! -f "$log" ] || [ ! -r "$log" ] || log_from=$(($(wc -c < "$log") + 1))
}

# new_emergencies: the last [emerg] lines that the error log got since find_error_log.
new_emergencies() {
    [ -n "$log" ] || log=$(built_in error-log-path)
    [ -f "$log" ] && [ -r "$log" ] || return 0
    tail -c "+$log_from" "$log" | grep -a '\[emerg\]' | tail -n 3 |
        sed 's/^.*\[emerg\] [0-9#]*: //; $!s/$/; /' | tr -d '\n'
}

reload() {
    run_and_keep "$(reload_words)"
    reload_status=$?
}

# prove SNAPSHOT NAME: watch until the reload is proved, or say in why what was missing at the
# limit. NAME is the generation to be served, or `-` with unwanted set to one that must be gone.
prove() {
    now_ms
    v_until=$((rd_now + prove_limit_ms)) v_dead=
    while :; do
        list_processes
        count_workers "$1"
        # The earlier workers are told to go only after the new ones were born. With neither, the
        # new ones died: every moment of waiting is an outage.
        if [ "$n_current$n_unretired" != 00 ]; then v_dead=
        elif [ -n "$v_dead" ]; then
            now_ms
            [ $((rd_now - v_dead)) -lt 300 ] || { why="no worker is left, the site is down"; return 1; }
        else now_ms; v_dead=$rd_now; fi
        if [ "$n_current" -eq 0 ]; then why="no new worker process appeared"
        elif [ "$n_unretired" -gt 0 ]; then why="workers from before the reload go on taking connections:$unretired"
        else
            ask_live
            [ "$2" = - ] || [ "$live" != "$2" ] || return 0
            if [ "$2" = - ]; then
                case $newline$answers$newline in
                    *"${newline}200 $unwanted$newline"*) ;;
                    *) return 0 ;;
                esac
                why="generation $unwanted is still served"
            else
                why="the generation endpoint on port $port answered \`$answers\`, should be \`200 $2\`"
            fi
        fi
        now_ms
        [ "$rd_now" -lt "$v_until" ] || return 1
        pause 0.02
    done
}

# fail_unproved: the end of a reload that cannot be proved.
fail_unproved() {
    f_more=$(new_emergencies)
    [ "$reload_status" -eq 0 ] || f_more="the reload command said: $(said)${f_more:+; $f_more}"
    fail "reload not proved: $why${f_more:+; $f_more}"
}

# put_back: after a failed test, the file that was there before, byte for byte; unless somebody has
# saved another one over ours meanwhile, which then stays.
put_back() {
    if [ "$replaced" != absent ]; then place "$state/previous" "$ours"
    elif [ "$(digest_of "$real")" = "$ours" ]; then
        d_before=$(stat -c %.9Y "${real%/*}" 2>/dev/null)
        privileged rm -f "$real" </dev/null
        note_folder
    else
        theirs="somebody changed $file in this very moment; it is left as they saved it"
        return 2
    fi
    p_status=$?
    [ "$p_status" = 0 ] || return "$p_status"
    [ "$(digest_of "$real")" = "$replaced" ]
}

# back_text: put the file before back, and say how that went.
back_text() {
    put_back
    case $? in
        0) b_text="the file before is back" ;;
        2) b_text=$theirs ;;
        *) b_text="the file before could not be put back" ;;
    esac
}

# test_or_put_back: run nginx's own test on what is in place.
test_or_put_back() {
    if run_and_keep "$(test_words)"; then settle; return 0; fi
    back_text
    fail "nginx refused the configuration, $b_text: $(said)"
}

# fail_unloaded REASON: between the new text in place and the reload. A text left there would go
# live with anybody's reload.
fail_unloaded() {
    [ "$placed" = 1 ] || fail "$1; not reloaded"
    back_text
    fail "$1; not reloaded, and $b_text"
}

# A command follows its intent at once. Two round trips about the record (15 s each) may lie between
# them, this machine's lock (10 s), and a new connection, through jump hosts perhaps (10 s each).
late_s=75

# refuse_if_late: a command of an operator who stood still, after its intent was written here, rests
# on a look as old as that. Where no record was ever written there is none to follow.
refuse_if_late() {
    [ -e "$state/current" ] || return 0
    i_written=''
    { read -r i_written < "$state/intent"; } 2>/dev/null || :
    is_number "$i_written" || refuse "nobody has just written here what is about to be done: the lock was given up, or the record not taken"
    now_ms
    i_age=$((rd_now / 1000 - i_written))
    [ "$i_age" -ge 0 ] || refuse "too late: this machine was restarted after the intent was written"
    [ "$i_age" -le "$late_s" ] || refuse "too late: the intent was written here $i_age s before its command came"
}

# ready_to_change DIGEST: everything that must hold before a byte is written.
ready_to_change() {
    refuse_if_late
    real=$(readlink -f "$file") || refuse "cannot tell where $file leads"
    [ -n "$real" ] && [ ! -d "$real" ] || refuse "$file is not a file"
    if [ -e "$real" ] && [ ! -r "$real" ]; then refuse "cannot read $real"; fi
    replaced=$(digest_of "$real")
    [ "$replaced" = "$1" ] || refuse "the file $file is not the one that was seen (digest $replaced, should be $1)"
    list_processes
    find_master || :
    refuse_unless_ours
    note_owner "$real"
    find_error_log
}
