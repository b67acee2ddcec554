# with: nginx_settings
# nginx_wait_free LIMIT_S: until no command of ours holds this place, or the limit.
end_with_channel
[ ! -e "$state/lock" ] || flock -s -w "$1" "$state/lock" true 8<&- || finish done "limit"
finish done "free"
