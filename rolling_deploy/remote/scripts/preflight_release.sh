# with: service service_facts release_store
# preflight_release: facts about the release folders and the machine; what they mean is judged by
# the sender.
named "$@"
shift "$named_count"
release_places
say_service "$@"
say_missing ln readlink find tar
[ "$suffix" != .zip ] || say_missing unzip
[ -d "$root" ] || { say root missing; finish done; }
[ -w "$root" ] || say_unwritable "$root"
is_writable "$releases/.incoming" || say_unwritable "$releases"
say free_kb "$(free_kb "$releases/.incoming")"
if [ -L "$link" ]; then
    [ -d "$link/" ] || say link dangling
elif [ -e "$link" ]; then say link directory
else say link missing
fi
all_releases | while read -r staged; do say here "$staged"; done
finish done
