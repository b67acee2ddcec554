# with: nginx_settings nginx_processes nginx_generation nginx_publish
# nginx_facts: everything a preflight wants to know of a load balancer. Reads only; `nginx -t` and
# `nginx -T` run only where the pid file exists, because they create one otherwise.
missing_tools() {
    for f_tool in flock sha256sum base64 awk sed grep stat readlink mv cp install sort tail mktemp; do
        command -v "$f_tool" >/dev/null 2>&1 || printf '%s ' "$f_tool"
    done
    printf 'x\n' | grep -aobH x >/dev/null 2>&1 || printf '%s ' "grep -aob (GNU grep)"
    find_client || printf '%s ' "bash, curl, wget or python3 (to ask the generation endpoint)"
}

# may_write DIR: yes when a file can be made there, now or once its parents are created.
may_write() {
    y_dir=$1
    while [ ! -e "$y_dir" ] && [ "$y_dir" != / ]; do y_dir=$(dirname "$y_dir"); done
    if [ -d "$y_dir" ] && [ -w "$y_dir" ] && [ -x "$y_dir" ]; then say "$2" yes; else say "$2" no; fi
}

# may_sudo NAME WORDS: whether sudo lists exactly this among what we may run, and as what. That it
# asks for no password is another question: see `sudo_listing`.
may_sudo() {
    s_name=$1
    set -f; s_ifs=$IFS IFS=$newline
    # shellcheck disable=SC2086 # one word a line
    set -- $2
    IFS=$s_ifs; set +f
    case $1 in sudo | doas) return 0 ;; esac
    if s_listed=$(sudo -n -l -- "$@" 2>/dev/null </dev/null); then say sudo_listed "$s_listed"; return 0; fi
    # With its full path, as sudoers wants it.
    s_path=$(command -v -- "$1" 2>/dev/null) || s_path=$1
    shift
    say sudo_refused "$s_name: $s_path${*:+ $*}"
}

check_sudo() {
    [ "${RD_SUDO:-0}" = 1 ] || return 0
    say user "$(id -un)"
    note_owner "$real"
    d_beside=${real%/*}/.${real##*/}.rolling-deploy
    may_sudo write "install${newline}-m${newline}$o_mode${newline}-o${newline}$o_user${newline}-g${newline}$o_group${newline}$state/.incoming${newline}$d_beside"
    may_sudo rename "mv${newline}-f${newline}$d_beside${newline}$real"
    [ -e "$real" ] || may_sudo "take back" "rm${newline}-f${newline}$real"
    # Root is never asked.
    [ "$(id -u)" = 0 ] || sudo -n -ll 2>/dev/null </dev/null | say64 sudo_listing
    [ "$master" != 0 ] || return 0
    may_sudo test "$(test_words)"
    may_sudo reload "$(reload_words)"
    may_sudo dump "$(master_words; printf '%s' -T)"
}

# The running program against the one its path names now: same, changed, or nothing when unknown.
say_binary() {
    b_link=$(readlink "/proc/$master/exe" 2>/dev/null) || return 0
    b_path=${b_link% (deleted)}
    say exe "$b_path"
    if [ "$(stat -L -c '%d %i' "/proc/$master/exe" 2>/dev/null)" = "$(stat -L -c '%d %i' "$b_path" 2>/dev/null)" ]
    then say binary same; else say binary changed; fi
}

say_test() {
    t_said=$(run_words "$(test_words)")
    say test_status $?
    printf '%s' "$t_said" | say64 test_said
}

# say_dump: the whole configuration as nginx reads it, and its files that changed after it was
# loaded: after the oldest worker that is not retiring was born (a crashed worker is born anew).
say_dump() {
    d_said=$(run_words "$(master_words; printf '%s' -T)")
    d_status=$?
    d_text=$(printf '%s\n' "$d_said" | sed '/^# configuration file /,$!d')
    [ -n "$d_text" ] || d_status=1
    if [ "$d_status" -ne 0 ]; then
        say dump_said "$(printf '%s' "$d_said" | tail -n 3)"
        return 0
    fi
    printf '%s\n' "$d_text" | say64 dump
    d_loaded=$(printf '%s\n' "$workers" | awk '$3 == "current" { print $2 }' | sort -n | head -n 1)
    [ -n "$d_loaded" ] || return 0
    find_snapshot "$(digest_of "$real")"
    read -r d_up d_rest < /proc/uptime
    d_loaded=$(awk -v now="$(date +%s.%N)" -v up="$d_up" -v ticks="$d_loaded" -v hz="$(getconf CLK_TCK 2>/dev/null || echo 100)" \
        'BEGIN { printf "%.3f", now - up + ticks / hz + 0.05 }')
    say loaded "$d_loaded"
    printf '%s\n' "$d_text" | sed -n 's/^# configuration file \(.*\):$/\1/p' | sort -u | while read -r d_file; do
        # A text that we published is nobody's edit, loaded or not: whoever decides knows of it.
        [ -z "$snapshot" ] || ! [ "$d_file" -ef "$real" ] || continue
        stat -L -c '%.3Y %.3Z %n' "$d_file" 2>/dev/null
    done | awk -v loaded="$d_loaded" '
        { name = $0; sub(/^[^ ]+ [^ ]+ /, "", name) }
        $1 + 0 > loaded + 0 { print "edited=" name; next }
        $2 + 0 > loaded + 0 { print "touched=" name }'
    say_links
    say_folders
}

# say_links: links on the way to a file of the configuration that were set after it was loaded:
# what they lead to now may be older, and is another text all the same.
say_links() {
    printf '%s\n' "$d_text" | sed -n 's/^# configuration file \(.*\):$/\1/p' | sort -u | while read -r k_path; do
        k_left=12
        while [ "${k_path:-/}" != / ] && [ "$k_left" -gt 0 ]; do
            if [ -L "$k_path" ]; then
                k_left=$((k_left - 1))
                stat -c '%.3Z %n' "$k_path"
                k_to=$(readlink "$k_path")
                case $k_to in /*) k_path=$k_to ;; *) k_path=${k_path%/*}/$k_to ;; esac
            else k_path=${k_path%/*}; fi
        done
    done 2>/dev/null | sort -u | awk -v loaded="$d_loaded" '
        $1 + 0 > loaded + 0 { sub(/^[^ ]+ /, ""); print "edited=" $0 }'
}

# say_folders: directories that an `include` looks into with a pattern and that were written after
# it was loaded: a file that is gone leaves no other trace. What we wrote there ourselves does not
# count: the managed file (`note_folder`), and the making of a state directory.
say_folders() {
    n_after='' n_others='' n_folder=''
    { read -r n_after n_others n_folder < "$state/.folder"; } 2>/dev/null || :
    printf '%s\n' "$d_text" | sed 's/#.*//' | tr ';{}' '\n\n\n' |
        sed -n 's/^[[:space:]]*include[[:space:]]*["'\'']\{0,1\}\([^"'\'']*[*?[][^"'\'']*\).*/\1/p' | sort -u |
        while read -r i_pattern; do
            case $i_pattern in /*) ;; *) i_pattern=${m_config%/*}/$i_pattern ;; esac
            IFS=$newline
            for i_folder in ${i_pattern%/*}; do
                [ -d "$i_folder" ] || continue
                i_real=$(readlink -f "$i_folder")
                i_written=$(stat -L -c %.9Y "$i_folder")
                [ "$i_written" != "$n_after" ] || [ "$i_real" != "$n_folder" ] || i_written=$n_others
                i_made=$(stat -c %.9W "$i_real/.rolling-deploy" 2>/dev/null || printf 0)
                printf '%s %s %s\n' "$i_written" "$i_made" "$i_folder"
            done
        done 2>/dev/null | sort -u | awk -v loaded="$d_loaded" '
            $1 - $2 < 0.02 && $2 - $1 < 0.02 { next }
            $1 + 0 > loaded + 0 { sub(/^[^ ]+ [^ ]+ /, ""); print "rearranged=" $0 }'
}

say_masters() {
    f_mine=$master
    named_in "${m_pid_file:-/}.oldbin"
    f_old=$rd_named
    while read -r p_pid p_parent p_session p_start p_kind p_title; do
        [ "$p_kind" = master ] || continue
        f_kin=other
        [ "$p_pid" != "$f_mine" ] || f_kin=ours
        if [ "$f_kin" = other ] && { [ "$p_parent" = "$f_mine" ] || [ "$p_pid" = "$m_parent" ] || [ "$p_pid" = "$f_old" ]; }
        then f_kin=upgrade; fi
        say master_seen "$p_pid $f_kin $p_title"
    done <<LIST
$processes
LIST
}

# Workers whose master is gone: nobody can tell them anything any more.
say_orphans() {
    o_first=$(orphans worker)
    [ -n "$o_first" ] || return 0
    # An nginx that is just being stopped may lose its master before its workers.
    pause 1
    list_processes
    find_elsewhere
    for o_pid in $(orphans worker); do
        case $elsewhere in *" $o_pid "*) continue ;; esac
        for o_one in $o_first; do [ "$o_one" != "$o_pid" ] || say orphan "$o_pid"; done
    done
}

real=$(readlink -f "$file") || real=$file
say clock_ms "$(date +%s%3N)"
say sudo "${RD_SUDO:-0}"
say tools_missing "$(missing_tools)"
find_client
say client "$client"
say hidepid "$(sed -n 's/^[^ ]* \/proc proc \([^ ]*hidepid=[^ ]*\).*/\1/p' /proc/mounts | head -n 1)"
[ "$real" = "$file" ] || say leads_to "$real"
if [ -e "$real" ]; then if [ -r "$real" ]; then say file_state readable; else say file_state unreadable; fi
else say file_state absent; fi
may_write "$state" state_writable
may_write "$(dirname "$real")" file_writable
list_processes
find_master || say no_master "$master_why"
count_workers ''
say master "$master"
say pid_file "${m_pid_file-}"
say pid_state "$pid_state"
say pid_named "$pid_named"
[ "$pid_state" != stale ] || say pid_command "$(command_of "$pid_named")"
say_masters
say_orphans
say workers "$n_current"
say retiring "$n_earlier"
ask_live
say live "$live"
say answers "$answers"
say listening "$(awk -v port="$(printf '%04X' "$port")" '
    $4 == "0A" && ($2 == "0100007F:" port || $2 ~ "^0+:" port "$") { n++ } END { print n + 0 }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null)"
check_sudo
[ "$master" != 0 ] || finish done
if u_name=$(systemd_unit); then say systemd "$u_name"; fi
m_version=$("$m_exe" -v 2>&1 </dev/null)
say version "${m_version#nginx version: }"
# Needed to test a configuration of our own: it may only name what this program has.
say built_without "$("$m_exe" -V 2>&1 </dev/null | tr ' ' '\n' | grep '^--without-' | tr '\n' ' ')"
say_binary
say config "$m_config"
say prefix "$m_prefix"
say reload_command "$(reload_words)"
say test_command "$(test_words)"
[ "$pid_state" = ok ] || finish done
say_test
say_dump
finish done
