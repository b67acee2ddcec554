# with: service release_store
# stage_release: note the way back, make the folders, and say whether the release is here already.
named "$@"
release_places
enter "$state" "$epoch" "$holder"
survive_the_channel
# The application may run as another user, who has to read what is unpacked.
umask 022
[ -d "$root" ] || refuse "$root is not a directory; nothing was changed"
refuse_unless_link
secure_deployed
mkdir -p "$releases/.incoming" || refuse "cannot create $releases/.incoming; nothing was changed"
[ -z "$(release_dir "$artifact")" ] || say here 1
finish done
