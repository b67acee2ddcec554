# wiring_facts: what is only asked of a wired Tomcat: since when it runs, which Tomcat it is, who else
# wires it, and what the next version of a file would be to it. Changes nothing. Needs `service`,
# `war_store` and `wiring_store`.

# find_restarted: sets restarted to what `is_restarted` says of the $current files. Where our notes do not
# know them, stale to those that were written or touched after the process had started, and undated to
# those whose time says nothing: by this machine's clock, to within 2 s.
find_restarted() {
    stale='' undated='' restarted=$(state=$wiring; is_restarted "$current")
    find_running
    for oldest in $running; do break; done
    [ -n "$running" ] || return 0
    # The process started after we had put these very bytes there: whoever wrote them once more (as
    # provisioning does), or whatever a clock says, has made nothing older. Of what came by hand nothing
    # is known, and a copy or a move keeps the time of writing, but not that of change.
    [ "$restarted" = unknown ] || return 0
    # The kernel counts both starts in the same ticks, whatever clock a container has.
    stale_tick=$(this_tick) stale_now=$(date +%s)
    stale_hertz=$(getconf CLK_TCK 2>/dev/null) || stale_hertz=100
    stale_since=$((stale_now - (stale_tick - ${oldest##*:}) / stale_hertz + 2))
    for path in $paths; do
        [ -e "$base/$path" ] || continue
        stale_at=$(stat -L -c %Z "$base/$path")
        if [ "$stale_at" -gt $((stale_now + 2)) ]; then undated="$undated $path"
        elif [ "$stale_at" -gt "$stale_since" ]; then stale="$stale $path"; fi
    done
    [ -z "$stale" ] || restarted=no
}

# say_restarted: the same as lines; only of a Tomcat that runs.
say_restarted() {
    find_restarted
    [ -z "$running" ] || [ "$restarted" != no ] || say older "$(pids_of "$running")"
    for path in $stale; do say stale "$path"; done
    for path in $undated; do say undated "$path"; done
}

# say_tomcat: where Tomcat's own jar names its version, packed as it is there: the header of the entry,
# and enough behind it. Asks neither Java nor a packer, which need not be on this machine.
say_tomcat() {
    [ -r "$home/lib/catalina.jar" ] || return 0
    for entry in $(grep -a -b -o -F -e org/apache/catalina/util/ServerInfo.properties "$home/lib/catalina.jar" |
        head -n 4); do
        entry=${entry%%:*}
        [ "$entry" -ge 30 ] || continue
        tail -c "+$((entry - 29))" "$home/lib/catalina.jar" 2>/dev/null | head -c 4000 | say64 tomcat
    done
}

# say_marks: what the setups of other inventories noted of this CATALINA_BASE.
say_marks() {
    for mark in "$base"/conf/.rolling-deploy-*.json; do
        [ -e "$mark" ] && [ "$mark" != "$(mark_of "$application")" ] || continue
        say mark_path "$mark"
        head -c 100000 "$mark" 2>/dev/null | say64 mark
    done
}

# say_next PATH: what the next version of this file would be, if that is not what it should: `unkept`
# where its owner or group would be lost, `unreadable_next` where Tomcat could not read it. As `hand_over`
# does it.
say_next() {
    like_of "$1"
    # A name may hold blanks (`domain users`), a number none.
    set -- "$1" "$(next_mode "$1")" $(stat -L -c '%u %g %a' "$like")
    like_names=$(stat -L -c %U:%G "$like") next_names=$(id -un) next_uid=$(id -u)
    if [ "$next_uid" = 0 ]; then next_names=$like_names next_uid=$3 next_gid=$4
    else
        case " $(id -G) " in
            *" $4 "*) next_names=$next_names:$(stat -L -c %G "$like") next_gid=$4 ;;
            *) next_names=$next_names:$(id -gn) next_gid=$(id -g) ;;
        esac
    fi
    [ ! -e "$base/$1" ] || [ "$next_uid $next_gid" = "$3 $4" ] || {
        say unkept "$1"
        say unkept_before "$like_names"
        say unkept_after "$next_names"
    }
    [ -n "$running" ] || [ "$next_uid $next_gid $2" != "$3 $4 $5" ] || return 0
    can_read "$next_uid" "$next_gid" "$2" "$4" || say unreadable_next "$1 $next_names with mode $2"
}
