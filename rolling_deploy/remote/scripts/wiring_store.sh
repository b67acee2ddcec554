# wiring_store: the files that make the wiring of one Tomcat, and earlier and later versions of them.
#
# A set of files is called by the sha256 of its manifest: a line `DIGEST PATH` for each path, `-` for
# a file that is not there. The store holds, for each set, NAME.manifest and NAME.modes (`MODE PATH`),
# and what is in the files as DIGEST.blob, each once. It is private: files may hold passwords. Among the
# modes, `dangling` stands for a path that is a link to nothing. NAME.APPLICATION.mark is what that
# application's setup leaves in `conf` while the set is in place, for the setups of other inventories.
#
# Uses base (CATALINA_BASE), home (CATALINA_HOME), application, paths (in the order of the manifest) and
# state; sets wiring. Needs `service` and `war_store`.
wiring_places() { wiring=$state/wiring; }

# read_current: sets current_text, the manifest of what is there now, and current, its name. False
# when a file cannot be read; then unreadable names it.
read_current() {
    current_text='' unreadable=''
    for path in $paths; do
        found=$(digest_of "$base/$path")
        case $found in
            absent) found=- ;;
            unreadable) unreadable=$base/$path; return 1 ;;
        esac
        current_text="$current_text$found $path
"
    done
    current=$(name_of "$current_text")
}

name_of() {
    rd_sum=$(printf '%s' "$1" | sha256sum)
    printf '%s\n' "${rd_sum%% *}"
}

# digest_in TEXT PATH: sets found to the digest of this path in a manifest, or to nothing.
digest_in() {
    found=''
    while read -r line_digest line_path; do
        [ "$line_path" != "$2" ] || found=$line_digest
    done <<TEXT
$1
TEXT
}

# is_whole NAME: everything in this set lies here.
is_whole() {
    [ -r "$wiring/$1.manifest" ] && [ -r "$wiring/$1.modes" ] || return 1
    while read -r line_digest line_path; do
        [ "$line_digest" = - ] || [ -f "$wiring/$line_digest.blob" ] || return 1
    done < "$wiring/$1.manifest"
}

make_wiring_store() {
    { mkdir -p "$wiring" && chmod 700 "$wiring"; } 2>/dev/null ||
        refuse "cannot create $wiring; nothing was changed"
    refuse_unless_private "$wiring"
}

# write_text NAME TEXT: whole or not at all, and on the disk before we go on.
write_text() {
    { printf '%s' "$2" > "$wiring/.text"; } 2>/dev/null && sync -d "$wiring/.text" &&
        mv -f -T "$wiring/.text" "$wiring/$1" && return 0
    rm -f "$wiring/.text"
    return 1
}

# secure_current: keep a copy of what is there now, so that there is something to go back to.
secure_current() {
    modes=''
    while read -r digest path; do
        [ -n "$path" ] || continue
        if [ "$digest" = - ]; then
            [ ! -L "$base/$path" ] || modes="${modes}dangling $path
"
            continue
        fi
        modes="$modes$(stat -L -c %a "$base/$path") $path
"
        [ "$(digest_of "$wiring/$digest.blob")" != "$digest" ] || continue
        cp --reflink=auto "$base/$path" "$wiring/.securing" 2>/dev/null && sync -d "$wiring/.securing" &&
            [ "$(digest_of "$wiring/.securing")" = "$digest" ] &&
            mv -f -T "$wiring/.securing" "$wiring/$digest.blob" || {
            rm -f "$wiring/.securing"
            refuse "cannot keep a copy of $base/$path in $wiring, so there would be nothing to go back to; nothing was changed"
        }
    done <<TEXT
$current_text
TEXT
    write_text "$current.modes" "$modes" && write_text "$current.manifest" "$current_text" ||
        refuse "cannot write in $wiring; nothing was changed"
}

# next_mode PATH: prints the mode that a version of this file is to have.
next_mode() {
    if [ -e "$base/$1" ]; then like_mode=$(stat -L -c %a "$base/$1")
    else
        case $1 in
            lib/*)
                like_mode=644
                for jar in "$base"/lib/*.jar "$home"/lib/*.jar; do
                    [ -f "$jar" ] && like_mode=$(stat -L -c %a "$jar") && break
                done ;;
            *) like_mode=640; [ ! -e "$base/conf/context.xml" ] || like_mode=$(stat -L -c %a "$base/conf/context.xml") ;;
        esac
    fi
    # A file with a password is nobody else's to read.
    case " $private " in *" $1 "*) like_mode=${like_mode%?}0 ;; esac
    printf '%s\n' "$like_mode"
}

# place_of PATH: sets place, where this file really lies (a link leads to what it names), and next, the
# name under which the next version waits beside it. Neither Tomcat nor its class loader takes it. A
# link that leads round, or into a folder that is not there, has no place: then astray is set.
place_of() {
    place=$base/$1 astray=''
    if [ -L "$place" ]; then
        place=$(readlink -f -- "$place") && [ -n "$place" ] || { place=$base/$1 astray=1; }
    fi
    next=${place%/*}/.${place##*/}.rolling-deploy
}

# like_of PATH: sets like, the file whose owner and group a version of this one is to have.
like_of() {
    like=$base/$1
    [ -e "$like" ] || like=$base/conf/context.xml
    [ -e "$like" ] || like=$base/conf
}

# refuse_unless_known: what is there now must be a set that was secured, or, where an activation was
# cut short, each file one of its versions. Anything else is somebody's edit. Sets moving to the sets
# that the files may belong to until this activation is over.
refuse_unless_known() {
    if is_whole "$current"; then moving="$current $artifact"; return 0; fi
    moving=''
    [ ! -s "$wiring/moving" ] || read -r moving < "$wiring/moving"
    edited=''
    while read -r digest path; do
        [ -n "$path" ] || continue
        is_known=''
        for name in $moving; do
            [ ! -r "$wiring/$name.manifest" ] || ! grep -q -x -F -e "$digest $path" "$wiring/$name.manifest" || is_known=1
        done
        [ -n "$is_known" ] || edited="$edited $base/$path"
    done <<TEXT
$current_text
TEXT
    [ -n "$moving" ] || name_edited
    [ -z "$edited" ] || refuse "changed since the wiring was staged:$edited; put it back as it was, or \`rolling-deploy abort --leave-changed\` and \`rolling-deploy setup\` again, which merges with it; nothing was changed"
    moving="$moving $artifact"
}

# name_edited: no activation was cut short, so only what no set has was edited.
name_edited() {
    edited=''
    while read -r digest path; do
        [ -z "$path" ] || grep -q -x -F -s -e "$digest $path" "$wiring"/*.manifest || edited="$edited $base/$path"
    done <<TEXT
$current_text
TEXT
    edited=${edited:- $base/conf}
}

# prepare_next DIGEST PATH: the next version of a file, whole, beside it, with its owner and mode.
prepare_next() {
    place_of "$2"
    folder=${place%/*}
    if [ ! -d "$folder" ]; then
        (umask 022 && mkdir -p -- "$folder") 2>/dev/null || refuse "cannot create $folder; nothing was changed"
        chown --reference="$base/conf" "$folder" 2>/dev/null
    fi
    rm -f -- "$next" 2>/dev/null
    cp --reflink=auto "$wiring/$1.blob" "$next" 2>/dev/null && sync -d "$next" ||
        refuse "cannot write $next (is the disk full?); nothing was changed"
    if [ "$(digest_of "$next")" != "$1" ]; then
        mv -f -T "$wiring/$1.blob" "$wiring/.damaged"
        refuse "what was staged for $2 is damaged (its sha256 is not $1): stage it again; nothing was changed"
    fi
    mode=$(awk -v path="$2" '$2 == path { print $1 }' "$wiring/$artifact.modes")
    case $mode in '' | *[!0-7]*) refuse "the mode of $2 is not known: stage it again; nothing was changed" ;; esac
    hand_over "$next" "$2" "$mode"
}

# hand_over FILE PATH MODE: give FILE the owner, group and mode of a version of PATH, as far as we may;
# refused when Tomcat could not read it then, which would be a backend that does not come back.
hand_over() {
    like_of "$2"
    # The owner first: the mode lets in whom owner and group say. Only root may give files away.
    chown --reference="$like" "$1" 2>/dev/null || chgrp --reference="$like" "$1" 2>/dev/null
    chmod "$3" "$1" || refuse "cannot set the mode of $1; nothing was changed"
    # Where none runs that could be asked, whoever reads what lies there reads what is just like it:
    # a Tomcat that is stopped must not stay so because its files are for its owner alone.
    [ -n "$running" ] || [ "$(stat -c '%u %g %a' "$1")" != "$(stat -L -c '%u %g %a' "$like")" ] || return 0
    can_read $(stat -c '%u %g %a' "$1") "$(stat -L -c %g "$like")" ||
        refuse "Tomcat could not read the new $2, which would be $(stat -c '%U:%G with mode %a' "$1"): log in as Tomcat's user or one of its group; nothing was changed"
}

# take_away: what was not there before goes. It may have come through a link that led to nothing, which
# stays, and leads to nothing again.
take_away() {
    if [ -L "$base/$path" ] && grep -q -s -x -F -e "dangling $path" "$wiring/$artifact.modes"; then
        rm -f -- "$place"
    else rm -f -- "$base/$path"; fi
}

mark_of() { printf '%s\n' "$base/conf/.rolling-deploy-$1.json"; }

# place_mark: who wires this Tomcat, and to what, goes with the files. Nothing waits for it: a mark that
# cannot be written is said in unmarked.
place_mark() {
    unmarked='' mark=$(mark_of "$application")
    [ ! -e "$mark.next" ] || rm -f -- "$mark.next"
    if [ ! -s "$wiring/$artifact.$application.mark" ]; then
        rm -f -- "$mark"
    else
        cmp -s "$wiring/$artifact.$application.mark" "$mark" ||
            { cp "$wiring/$artifact.$application.mark" "$mark.next" && chmod 644 "$mark.next" && mv -f -T "$mark.next" "$mark"; }
    fi 2>/dev/null || unmarked="; $mark could not be written, so setups of other inventories do not see this one"
}

# drop_prepared: remove what waits beside its place, also of an activation that was cut short.
drop_prepared() {
    for path in $paths; do
        place_of "$path"
        [ ! -e "$next" ] || rm -f -- "$next"
    done
}

# swap_files: every file of wanted_text in place of the current one. What is needed comes before what
# needs it (the session manager's jars before the `context.xml` that names it), and goes after it, so
# that a Tomcat which somebody starts in the middle finds what it is told to use. False when one cannot
# be put in place; then stuck names it.
swap_files() {
    for turn in needed context gone; do
        while read -r digest path; do
            [ -n "$path" ] || continue
            case $digest in -) due=gone ;; *) due=needed; [ "$path" != conf/context.xml ] || due=context ;; esac
            [ "$due" = "$turn" ] || continue
            digest_in "$current_text" "$path"
            [ "$found" != "$digest" ] || continue
            place_of "$path"
            stuck=$base/$path
            if [ "$due" = gone ]; then take_away || return 1
            else mv -f -T -- "$next" "$place" || return 1; fi
        done <<TEXT
$wanted_text
TEXT
    done
}
