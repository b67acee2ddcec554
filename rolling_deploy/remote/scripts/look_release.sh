# with: service release_store
# look_release: where the link points, what lies ready, whether the process is newer. Changes
# nothing.
named "$@"
release_places
is_free || say busy 1
[ -d "$root" ] || fail "$root is not a directory"
[ -L "$link" ] || [ ! -e "$link" ] || fail "$link is not a symbolic link"
find_deployed
artifact=$found_name
say artifact "$artifact"
all_releases | while read -r staged; do say staged "$staged"; done
say restarted "$(is_restarted "$artifact")"
# Asked again: what began in between is not yet what will be.
is_free || say busy 1
finish done
