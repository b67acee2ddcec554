#!/bin/bash
# A rolling deploy as a careful person writes it by hand: plain OpenSSH, one command a step, one
# connection a machine (ControlMaster), no proof of anything. What `make bench` compares with.
#
# plain_ssh.sh PLAN RELEASE ARTIFACT
#
# PLAN is a file of shell assignments: ssh_config, redis, drain_s, balancers (names), nodes (names),
# and per balancer NAME: file_NAME, nginx_NAME (the program with its options);
# per node NAME: host_NAME, address_NAME, root_NAME, appctl.
set -euo pipefail
# shellcheck disable=SC1090 # the plan is made by the bench
. "$1"
release=$2 artifact=$3
work=$(mktemp -d)

on() {
    local host=$1
    shift
    ssh -F "$ssh_config" -o ControlPath="$work/%n" "$host" "$@"
}

end_masters() {
    local host
    for host in $balancers $(for node in $nodes; do of host "$node"; done); do
        ssh -F "$ssh_config" -o ControlPath="$work/%n" -O exit "$host" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap end_masters EXIT

of() { local name=$1_$2; printf '%s\n' "${!name}"; }

# on_balancers FUNCTION WORDS...: the same on every load balancer at the same time.
on_balancers() {
    local balancer pids=() pid
    for balancer in $balancers; do
        "$1" "$balancer" "${@:2}" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
}

fetch() { on "$1" "cat $(of file "$1")" > "$work/original.$1"; }

# A dot-name beside it and a rename, as one does by hand; nginx's include does not see it.
write_file() {
    local file
    file=$(of file "$1")
    on "$1" "cat > ${file%/*}/.new && mv ${file%/*}/.new $file" < "$2"
}

publish_down() {
    sed "s/^\( *server $(of address "$2")\>[^;]*\);/\1 down;/" "$work/original.$1" > "$work/down.$1"
    write_file "$1" "$work/down.$1"
}

publish_original() { write_file "$1" "$work/original.$1"; }
test_nginx() { on "$1" "$(of nginx "$1") -t -q"; }
reload_nginx() { on "$1" "$(of nginx "$1") -s reload"; }

make_live() {
    on_balancers test_nginx
    on_balancers reload_nginx
}

wait_until_healthy() {
    local left=600
    until curl -s -f -m 1 "http://$(of address "$1")/health" | grep -q "\"$release\""; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "$1 does not become healthy" >&2; return 1; }
        sleep 0.1
    done
}

redis-cli -u "$redis" ping > /dev/null
on_balancers fetch
for node in $nodes; do
    host=$(of host "$node") root=$(of root "$node")
    on_balancers publish_down "$node"
    make_live
    sleep "$drain_s"
    on "$host" "mkdir -p $root/releases/$release && tar -xzf - -C $root/releases/$release" < "$artifact"
    on "$host" "ln -s -f -n releases/$release $root/.next && mv -T $root/.next $root/current"
    on "$host" "$appctl $root restart"
    wait_until_healthy "$node"
    on_balancers publish_original
    make_live
done
