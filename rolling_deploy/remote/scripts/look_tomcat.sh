# with: service war_store
# look_tomcat: what is deployed, what lies ready, whether the process is newer. Changes nothing.
named "$@"
war_places
is_free || say busy 1
[ -d "$webapps" ] || fail "$webapps is not a directory"
[ ! -f "$war" ] || [ -r "$war" ] || fail "$war cannot be read"
artifact=$(deployed)
say artifact "$artifact"
for staged in "$store"/*.war; do
    staged=${staged##*/} staged=${staged%.war}
    is_digest "$staged" && say staged "$staged"
done
say restarted "$(is_restarted "$artifact")"
# Asked again: what began in between is not yet what will be.
is_free || say busy 1
finish done
