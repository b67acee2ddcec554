"""The shapes of what is there: machines, load balancers with their nginx, upstreams, servers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rolling_deploy.inventory import kinds
from rolling_deploy.inventory.fields import Shape, must, same, seconds, worked_out
from rolling_deploy.settings import HostTarget, LoadBalancerSettings, UpstreamSettings


class SshShape(Shape):
    """How machines are reached. Given for all in `ssh`, for one machine in `hosts`."""

    user: kinds.User = same(
        HostTarget, "user", "user to log in as", "the user who runs rolling-deploy"
    )
    port: kinds.Port = same(HostTarget, "port", "port of sshd")
    key: kinds.LocalPath = same(
        HostTarget,
        "key",
        "private key file on this machine, relative to this file",
        "the SSH agent, then the usual files in `~/.ssh`",
    )
    known_hosts: kinds.LocalPath = same(
        HostTarget, "known_hosts", "file of known host keys on this machine"
    )
    host_keys: Literal["strict", "accept-new"] = same(
        HostTarget,
        "host_keys",
        "`strict` refuses a host key that is not known, `accept-new` remembers it; a changed key "
        "is refused by both",
    )
    connect_timeout_s: kinds.Seconds = seconds(
        HostTarget, "connect_timeout_ms", "how long connecting may take"
    )
    keepalive_s: kinds.WholeSeconds = same(
        HostTarget,
        "keepalive_s",
        "pause between two SSH keepalives; a link is given up when three stay unanswered",
    )
    sudo: kinds.Flag = same(
        HostTarget,
        "sudo",
        "run the few commands that need it through `sudo -n`; of stop and start only those of "
        "`systemctl`, `service` and `rc-service`, others run as written",
    )
    jump: kinds.NameOrNone = same(
        HostTarget,
        "jump",
        "the machine, one of `hosts`, through which SSH goes, as with OpenSSH's ProxyJump; it may "
        "have a `jump` itself. What `ssh` names holds for all but that one and those on the way to "
        "it; `null` under a machine: directly",
        "none: directly",
    )


class HostShape(SshShape):
    """One machine reached by SSH, or a jump host; its keys override those of `ssh`."""

    address: kinds.Host = worked_out("the machine's name", "host name or IP address")


class NginxShape(Shape):
    """The nginx of the load balancers. Given for all at the top, for one under its own name."""

    file: kinds.RemoteFile = worked_out(
        "`/etc/nginx/conf.d/APPLICATION.upstream.conf`",
        "the file that rolling-deploy manages there: this application's upstream blocks and "
        "nothing else",
    )
    state_dir: kinds.RemotePath = worked_out(
        "`.rolling-deploy/APPLICATION` beside the file",
        "directory there for the lock, the fence and the copy of the record",
    )
    generation_port: kinds.Port = same(
        LoadBalancerSettings,
        "generation_port",
        "port on the loopback interface that answers which configuration is live; the same for "
        "all applications of one nginx",
    )
    binary: kinds.RemoteFile = same(
        LoadBalancerSettings, "binary", "the nginx program", "that of the running master"
    )
    config: kinds.RemoteFile = same(
        LoadBalancerSettings, "config", "main configuration file", "that of the running master"
    )
    prefix: kinds.RemotePath = same(
        LoadBalancerSettings, "prefix", "nginx's prefix directory", "that of the running master"
    )
    pid_file: kinds.RemoteFile = same(
        LoadBalancerSettings, "pid_file", "nginx's pid file", "that of the running master"
    )
    test: Annotated[list[kinds.Word], Field(min_length=1)] = same(
        LoadBalancerSettings,
        "test",
        "command that tests the configuration, run as it stands",
        "`nginx -t` as the running master was started",
    )
    reload: Annotated[list[kinds.Word], Field(min_length=1)] = same(
        LoadBalancerSettings,
        "reload",
        "command that reloads nginx, run as it stands",
        "`systemctl reload` where systemd runs nginx, else `nginx -s reload`",
    )
    other_masters: Literal["refuse", "ignore"] = same(
        LoadBalancerSettings,
        "other_masters",
        "what to do about a second nginx master on the machine: `ignore` says that a person "
        "knows it to be unrelated, and so are the workers left in a container whose own master "
        "has gone",
    )
    acknowledged_routes: list[kinds.Address] = same(
        LoadBalancerSettings,
        "acknowledged_routes",
        "addresses of backends that the nginx configuration names outside the managed file, and "
        "that a person accepts",
    )
    prove_limit_s: kinds.Seconds = seconds(
        LoadBalancerSettings, "prove_limit_ms", "how long it may take to prove a reload"
    )


class LoadBalancerShape(Shape):
    """One load balancer."""

    name: kinds.Name = must("its name in plans, reports and commands")
    host: kinds.Name = worked_out("its name", "the machine it runs on, one of `hosts`")
    address: kinds.Address = worked_out(
        "the machine's address, with port 80 or, for `https`, 443",
        "`host:port` where its users' requests come in; the prober asks there",
    )
    access_log: kinds.RemoteFile = worked_out(
        "`path` of `losses.access_logs`", "its own access log, where its path differs"
    )
    nginx: NginxShape = worked_out("all from `nginx`", "overrides of `nginx` for this one")


class UpstreamShape(Shape):
    """One upstream block of the managed file."""

    name: kinds.Name = must("the name that `proxy_pass` uses")
    options: list[kinds.Directive] = same(
        UpstreamSettings,
        "options",
        "nginx directives of the block, without semicolons; used where no file exists yet (a "
        "block that exists keeps its own)",
    )


class ServerShape(Shape):
    """A backend's line in one upstream. What is not given here stays as it is in nginx."""

    address: kinds.Address = must("`host:port` as nginx connects to it")
    weight: kinds.Count = worked_out("as it is", "nginx's `weight`: share of the requests")
    max_conns: kinds.CountOrNone = worked_out(
        "as it is", "nginx's `max_conns`: connections at the same time, 0 for any number"
    )
    max_fails: kinds.CountOrNone = worked_out(
        "as it is", "nginx's `max_fails`: failures before it is avoided, 0 for never"
    )
    fail_timeout: kinds.NginxTime = worked_out(
        "as it is", "nginx's `fail_timeout`, as nginx writes it (`10s`)"
    )
    backup: kinds.Flag = worked_out(
        "as it is", "`true`: nginx's `backup`, used when the others are down; `false`: nothing"
    )
    parameters: list[kinds.Parameter] = worked_out(
        "none", "further parameters as nginx writes them, such as `resolve`"
    )
