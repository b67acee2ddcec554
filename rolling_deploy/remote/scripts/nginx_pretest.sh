# with: nginx_settings nginx_processes
# nginx_pretest: nginx's own test of the configuration on stdin, in a directory of its own that is
# always removed, as whoever we are and with the running master's program.
list_processes
find_master || :
program=${set_binary:-${m_exe-}}
[ "$master" != 0 ] || program=$set_binary
[ -n "$program" ] || fail "no nginx program to test with: $master_why"
work=$(mktemp -d) || fail "cannot make a directory to test in"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
sed "s|@WORKDIR@|$work|g" > "$work/nginx.conf" || fail "cannot write in $work"
if command -v timeout >/dev/null 2>&1; then set -- timeout 60; else set --; fi
"$@" "$program" -t -p "$work/" -c "$work/nginx.conf" > "$work/said" 2>&1 </dev/null
say status $?
sed "s|$work|@WORKDIR@|g" "$work/said" | say64 said
finish done
