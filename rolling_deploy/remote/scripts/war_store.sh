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
