# with: service war_store
# stage_tomcat: keep a copy of what runs now, and say whether the asked WAR is already here.
#
# Dying here leaves a dot-name in the store at most.
named "$@"
war_places
enter "$state" "$epoch" "$holder"
survive_the_channel
[ -d "$webapps" ] || refuse "$webapps is not a directory; nothing was changed"
make_store
secure_deployed
if [ "$(digest_of "$store/$artifact.war")" = "$artifact" ]; then
    touch "$store/$artifact.war"
    say here 1
else
    rm -f "$store/$artifact.war"
fi
say store "$store"
finish done
