# war_store: where the WARs of one Tomcat application lie ready: beside `webapps`, on the same file
# system, where Tomcat does not look. A WAR is called by the sha256 of its bytes.
#
# Uses base (CATALINA_BASE), context and state; sets webapps, war, exploded, store.
war_places() {
    webapps=$base/webapps war=$base/webapps/$context.war exploded=$base/webapps/$context
    store=$base/.rolling-deploy/$context
}

# deployed: what Tomcat would run now: a digest, `dir:CONTEXT` for a directory without a WAR, or
# nothing.
deployed() {
    if [ -f "$war" ]; then known_digest "$war"
    elif [ -d "$exploded" ]; then printf 'dir:%s\n' "$context"
    fi
}

make_store() {
    mkdir -p "$store" || refuse "cannot create $store; nothing was changed"
    [ "$(stat -L -c %d "$store")" = "$(stat -L -c %d "$webapps")" ] ||
        refuse "$webapps is on another file system than $base, so a WAR cannot be put there in one move; nothing was changed"
}

# secure_deployed: keep a copy of what runs now, so that there is something to go back to.
secure_deployed() {
    [ -f "$war" ] || return 0
    secure_key=$(key_of "$war")
    secured=$(known_digest "$war")
    if [ "$(digest_of "$store/$secured.war")" != "$secured" ]; then
        cp --reflink=auto "$war" "$store/.securing" 2>/dev/null && sync -d "$store/.securing" &&
            [ "$(digest_of "$store/.securing")" = "$secured" ] &&
            mv -f -T "$store/.securing" "$store/$secured.war" ||
            { rm -f "$store/.securing"; refuse "cannot keep a copy of $war in $store, so there would be nothing to go back to; nothing was changed"; }
    fi
    note_digest "$secure_key" "$secured" "$war"
}

is_digest() {
    case $1 in *[!0-9a-f]*) return 1 ;; esac
    [ ${#1} -eq 64 ]
}

# stuck_places: the directories that keep us from putting a WAR in place of another, one a line. What
# Tomcat compiled is moved aside within its own directory, so that one's rights are enough.
stuck_places() {
    [ -w "$webapps" ] && [ -x "$webapps" ] || printf '%s\n' "$webapps"
    [ ! -d "$exploded" ] || [ -L "$exploded" ] || [ -w "$exploded" ] || printf '%s\n' "$exploded"
    for work in "$base/work" "$base"/work/* "$base"/work/*/*; do
        [ ! -d "$work" ] || { [ -r "$work" ] && [ -x "$work" ]; } || printf '%s\n' "$work"
    done
    for work in "$base"/work/*/*/"$context"; do
        [ ! -d "$work" ] || [ -w "${work%/*}" ] || printf '%s\n' "${work%/*}"
    done
}

# move_work_aside: the same for $work, whoever owns what is in it.
move_work_aside() {
    aside=${work%/*}/.gone-$context
    [ ! -e "$aside" ] || aside=$aside-$(date +%Y%m%dT%H%M%S)
    mv -T "$work" "$aside"
}

# remove_old_work: as far as we may; Tomcat does not look at what is left.
remove_old_work() {
    for work in "$base"/work/*/*/.gone-"$context" "$base"/work/*/*/.gone-"$context"-*; do
        [ ! -d "$work" ] || rm -rf "$work" 2>/dev/null
    done
}

# find_reader: sets reader_uid and reader_gids to those of the running Tomcat, or to nothing.
find_reader() {
    reader_uid='' reader_gids=' '
    for reader in $running; do break; done
    [ -n "$running" ] && [ -r "/proc/${reader%%:*}/status" ] || return 0
    while read -r status_key status_real status_own status_rest; do
        case $status_key in
            Uid:) reader_uid=$status_own ;;
            Gid:) reader_gids="$reader_gids$status_own " ;;
            Groups:) reader_gids="$reader_gids$status_real $status_own $status_rest " ;;
        esac
    done < "/proc/${reader%%:*}/status"
}

# can_read UID GID MODE LIKE_GID: may the running Tomcat read such a WAR? Where none runs, the group of
# the WAR it read before is taken for its own.
can_read() {
    find_reader
    [ -n "$reader_uid" ] || reader_gids=" $4 "
    case $3 in ??????* | *[!0-7]* | '') return 1 ;; ? | ??) set -- "$1" "$2" "000$3" ;; esac
    read_bits=${3#"${3%???}"}
    if [ "$reader_uid" = 0 ]; then return 0
    elif [ "$reader_uid" = "$1" ]; then read_bits=${read_bits%??}
    else
        case $reader_gids in
            *" $2 "*) read_bits=${read_bits#?} read_bits=${read_bits%?} ;;
            *) read_bits=${read_bits#??} ;;
        esac
    fi
    case $read_bits in [4567]) return 0 ;; esac
    return 1
}

# refuse_unless_readable: a WAR that Tomcat may not read is a backend that does not come back.
refuse_unless_readable() {
    like_gid=$(stat -L -c %g "$like")
    can_read $(stat -c '%u %g %a' "$next") "$like_gid" ||
        refuse "Tomcat could not read the new WAR, which would be $(stat -c '%U:%G with mode %a' "$next"), as only root may give it the owner of $like; nothing was changed"
}

# say_if_unreadable: the same question ahead of time: what would the next WAR look like?
say_if_unreadable() {
    [ -f "$war" ] || return 0
    set -- $(stat -L -c '%u %g %a' "$war") "$(id -u)" "$(id -g)" " $(id -G) "
    [ "$4" != 0 ] || return 0
    case $6 in
        *" $2 "*) [ "$4" = "$1" ] || can_read "$4" "$2" "$3" "$2" ;;
        *) can_read "$4" "$5" "$3" "$2" ;;
    esac || say next_war_unreadable "$(stat -L -c '%U:%G with mode %a' "$war")"
}
