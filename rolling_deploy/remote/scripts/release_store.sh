# release_store: `releases/` and the `current` link. A release that this tool unpacked carries its
# name in a file of its own; any other directory is called `dir:NAME`.
#
# Uses root and state; sets releases, link.
release_places() {
    releases=$root/releases link=$root/current
    name_file=.rolling-deploy
}

# find_name DIR: sets found_name to what the release in this directory is called.
find_name() {
    found_name=''
    if [ -s "$1/$name_file" ]; then
        { IFS= read -r found_name < "$1/$name_file"; } 2>/dev/null || :
        return
    fi
    case $1 in
        "$releases"/*) found_name=dir:${1##*/} ;;
        *) found_name=dir:$1 ;;
    esac
}

name_of() {
    find_name "$1"
    [ -z "$found_name" ] || printf '%s\n' "$found_name"
}

# find_linked: sets linked_to to the directory that `current` points at, or nothing. Inside
# `releases` it is spelled from `releases`, however the link spells it.
find_linked() {
    linked_to=''
    [ -L "$link" ] || return 0
    linked_to=$(readlink "$link")
    # As we write it there is nothing to resolve.
    case $linked_to in
        releases/*/* | releases/. | releases/..) ;;
        releases/?*) if [ ! -L "$root/$linked_to" ]; then linked_to=$root/$linked_to; return 0; fi ;;
    esac
    case $linked_to in /*) ;; *) linked_to=$root/$linked_to ;; esac
    linked_to=$(readlink -m "$linked_to")
    case $linked_to in
        "$(readlink -m "$releases")"/*/*) ;;
        "$(readlink -m "$releases")"/*) linked_to=$releases/${linked_to##*/} ;;
    esac
}

# find_deployed: sets found_name to what `current` leads to, or nothing.
find_deployed() {
    find_linked
    found_name=''
    [ -z "$linked_to" ] || [ ! -d "$linked_to" ] || find_name "$linked_to"
}

deployed() {
    find_deployed
    [ -z "$found_name" ] || printf '%s\n' "$found_name"
}

# release_dir NAME: the directory of the release with this name, or nothing.
release_dir() {
    case $1 in
        dir:/*) [ -d "${1#dir:}" ] && printf '%s\n' "${1#dir:}"; return 0 ;;
        dir:*) [ -d "$releases/${1#dir:}" ] && printf '%s\n' "$releases/${1#dir:}"; return 0 ;;
    esac
    for release_at in "$releases"/*/; do
        release_at=${release_at%/}
        [ -s "$release_at/$name_file" ] || continue
        find_name "$release_at"
        [ "$found_name" = "$1" ] || continue
        printf '%s\n' "$release_at"
        return 0
    done
}

# all_releases: the name of everything that could be activated, one a line.
all_releases() {
    for release_at in "$releases"/*/; do
        [ -d "$release_at" ] && name_of "${release_at%/}"
    done
    # Places outside `releases` that the link has pointed at, kept by us as a way back.
    find_linked
    if [ ! -e "$state/outside" ]; then
        case $linked_to in '' | "$releases"/*) return 0 ;; esac
    fi
    { cat "$state/outside" 2>/dev/null; printf '%s\n' "$linked_to"; } | sort -u | while read -r outside; do
        case $outside in "$releases"/*) continue ;; esac
        [ -d "$outside" ] && name_of "$outside"
    done
}

# refuse_unless_link: a `current` that is a directory cannot be switched in one move.
refuse_unless_link() {
    [ -L "$link" ] || [ ! -e "$link" ] || refuse "$link is not a symbolic link; nothing was changed"
}

# secure_deployed: the way back is where the link points now.
secure_deployed() {
    find_linked
    secured=$linked_to
    case $secured in '' | "$releases"/*) return 0 ;; esac
    grep -q -x -F -e "$secured" "$state/outside" 2>/dev/null ||
        printf '%s\n' "$secured" >> "$state/outside" ||
        refuse "cannot note in $state where $link points now; nothing was changed"
}
