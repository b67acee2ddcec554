# with: service release_store
# unpack_release: unpack the archive that was sent under a dot-name, then rename. Its members were
# read before it was sent, and these are the same bytes.
#
# Dying here leaves dot-names at most, which the next unpacking removes.
named "$@"
release_places
enter "$state" "$epoch" "$holder"
survive_the_channel
umask 022
archive=$releases/.incoming/$digest$suffix
new=$releases/.new-$digest
[ -z "$(release_dir "$artifact")" ] || { rm -f "$archive"; finish done "unpacked already"; }
if [ "$(digest_of "$archive")" != "$digest" ]; then
    rm -f "$archive"
    refuse "the archive is damaged (its sha256 is not $digest): stage it again; nothing was changed"
fi
rm -rf "$new"
mkdir "$new" || refuse "cannot create $new; nothing was changed"
case $suffix in
    .zip) said=$(unzip -q -o "$archive" -d "$new" 2>&1 < /dev/null) ;;
    # Not by `-C`, in which tar takes a backslash for the beginning of an escape.
    *) said=$(cd "$new" && tar --no-same-owner --no-same-permissions -xf "$archive" 2>&1) ;;
esac || { rm -rf "$new"; refuse "cannot unpack: $(printf '%s' "$said" | tail -c 300); nothing was changed"; }
printf '%s\n' "$artifact" > "$new/.rolling-deploy.new" && mv -f -T "$new/.rolling-deploy.new" "$new/$name_file" ||
    { rm -rf "$new"; refuse "cannot write $new/$name_file; nothing was changed"; }
sync -f "$new"
# Another build of the same version may be there, perhaps running: it is not touched.
place=$releases/$version
[ ! -e "$place" ] && [ ! -L "$place" ] || place=$releases/$version-$(printf '%s' "$digest" | cut -c 1-12)
mv -T "$new" "$place" || { rm -rf "$new"; refuse "cannot rename to $place; nothing was changed"; }
rm -f "$archive"
finish done "unpacked in $place"
