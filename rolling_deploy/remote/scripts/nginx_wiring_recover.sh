# with: nginx_settings nginx_processes nginx_publish nginx_wiring
# nginx_wiring_recover: bring an edit that died in the middle to an end, if there is one.
trap '' HUP PIPE
[ -e "$setup/journal" ] || finish done
lock_machine
list_processes
find_master || :
recover
finish done
