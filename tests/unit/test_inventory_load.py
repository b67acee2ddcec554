"""What a sound inventory becomes: the settings, with every default from where it is written."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import get_args

import pytest

from rolling_deploy.errors import InventoryWrong
from rolling_deploy.inventory import load_inventory
from rolling_deploy.inventory.build import settings_of
from rolling_deploy.inventory.fields import Shape
from rolling_deploy.inventory.machine_shapes import NginxShape, SshShape, UpstreamShape
from rolling_deploy.inventory.merge import given
from rolling_deploy.inventory.model import (
    AccessLogsShape,
    DrainShape,
    HealthShape,
    InventoryShape,
    ProberShape,
    ReleaseShape,
    RolloutShape,
    TomcatShape,
    WarmUpShape,
)
from rolling_deploy.inventory.session_shapes import (
    CanaryRequestShape,
    CsrfShape,
    SessionCanaryShape,
    SessionStoreShape,
)
from rolling_deploy.inventory.walk import keys_of, shapes_in
from rolling_deploy.operations.opening import places_of
from rolling_deploy.rollout.fleet import DrainAtLimit, OnFailure, Policy
from rolling_deploy.settings import (
    AccessLogSettings,
    BackendSettings,
    CanaryRequest,
    CanarySettings,
    CsrfSettings,
    HealthSettings,
    HostTarget,
    Inventory,
    LoadBalancerSettings,
    LogoutWatchSettings,
    LossSettings,
    ProberSettings,
    ReleaseSettings,
    ServerSettings,
    SessionStoreSettings,
    TomcatSettings,
    UpstreamSettings,
    VersionSource,
    WarmUpSettings,
)

SMALL = """\
application: shop
hosts: {lb1: {}, web1: {}}
load_balancers: [{name: lb1}]
upstreams: [{name: tomcat}]
template: t.j2
upgrade: {strategy: tomcat, artifact: "build/shop-{release}.war"}
backends:
  - {name: app1, host: web1, address: "10.0.0.11:8080", upgrade: {catalina_base: /srv/app1}}
  - {name: app2, host: web1, address: "10.0.0.11:8081", upgrade: {catalina_base: /srv/app2}}
"""
RELEASE = """\
application: shop
hosts: {lb1: {}, web1: {}, web2: {}}
load_balancers: [{name: lb1}]
upstreams: [{name: app}]
template: t.j2
upgrade: {strategy: release, artifact: "shop.zip", root: /srv/shop, stop: [a], start: [b]}
backends:
  - {name: web1, address: "10.0.0.11:80"}
  - {name: web2, address: "10.0.0.12:80", upgrade: {restart: [c]}}
"""


def load(directory: Path, text: str) -> Inventory:
    """Answers an inventory with this text and a template beside it."""
    (directory / "t.j2").write_text("upstream {}\n")
    file = directory / "inventory.yaml"
    file.write_text(text)
    return load_inventory(file)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """Answers the text with each of the pairs replaced, all of which must be there."""
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_what_is_not_given_has_the_default_of_the_settings(tmp_path: Path) -> None:
    inventory = load(tmp_path, SMALL)
    known_hosts = os.path.expanduser("~/.ssh/known_hosts")  # noqa: PTH111 # as the code does
    assert inventory.hosts["lb1"] == HostTarget("lb1", "lb1", known_hosts=known_hosts)
    assert inventory.load_balancers["lb1"] == LoadBalancerSettings(
        name="lb1",
        host="lb1",
        file="/etc/nginx/conf.d/shop.upstream.conf",
        state_dir="/etc/nginx/conf.d/.rolling-deploy/shop",
    )
    assert inventory.upstreams == {"tomcat": UpstreamSettings("tomcat")}
    backend = inventory.backends["app1"]
    assert backend.strategy == TomcatSettings(
        artifact=str(tmp_path / "build/shop-{release}.war"),
        catalina_base="/srv/app1",
        state_dir="/srv/app1/.rolling-deploy",
    )
    assert backend.health == HealthSettings()
    assert backend.warm_up == WarmUpSettings()
    assert backend.servers == {"tomcat": ServerSettings("10.0.0.11:8080")}
    assert backend.probe_address == "10.0.0.11:8080"
    assert inventory.session_store == SessionStoreSettings()
    assert inventory.fleet.policy == Policy()


SECTIONS: tuple[tuple[type[Shape], type], ...] = (
    (SshShape, HostTarget),
    (NginxShape, LoadBalancerSettings),
    (UpstreamShape, UpstreamSettings),
    (TomcatShape, TomcatSettings),
    (ReleaseShape, ReleaseSettings),
    (HealthShape, HealthSettings),
    (WarmUpShape, WarmUpSettings),
    (RolloutShape, Policy),
    (SessionStoreShape, SessionStoreSettings),
    (ProberShape, ProberSettings),
    (AccessLogsShape, AccessLogSettings),
    (SessionCanaryShape, CanarySettings),
    (CanaryRequestShape, CanaryRequest),
    (CsrfShape, CsrfSettings),
)


@pytest.mark.parametrize(("shape", "settings"), SECTIONS)
def test_every_default_of_a_shape_is_the_one_of_the_settings(
    shape: type[Shape], settings: type
) -> None:
    _check_defaults(shape, settings)


def test_the_defaults_and_choices_of_the_policy_are_those_of_the_core() -> None:
    drain, rollout = keys_of(DrainShape), keys_of(RolloutShape)
    assert drain["limit_s"].default == Policy().drain_limit_ms / 1000
    assert drain["at_limit"].default == Policy().drain_at_limit
    assert set(get_args(drain["at_limit"].annotation)) == set(DrainAtLimit)
    assert set(get_args(rollout["on_failure"].annotation)) == set(OnFailure)


def _check_defaults(model: type[Shape], settings: type) -> None:
    """Make every default of the shape explicit; the settings must be those without any."""
    values = {key: field.default for key, field in keys_of(model).items()}
    values = {key: value for key, value in values.items() if value is not None}
    required = {
        field.name: "x"
        for field in dataclasses.fields(settings)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    assert settings_of(settings, values, required) == settings(**required)


def test_every_setting_can_be_reached_from_the_file() -> None:
    """A setting that no key fills would be a promise of the settings that nobody can use."""
    computed = {"name", "servers", "probe_address", "strategy", "state_dir", "address", "host"}
    computed |= {"counts_losses", "proves_sessions", "watches_logouts", "is_read"}  # by a section
    keys: set[str] = set()
    waiting: list[type[Shape]] = [InventoryShape]
    while waiting:
        for key, field in keys_of(waiting.pop()).items():
            keys.add(key)
            waiting += shapes_in(field.annotation)
    for settings in (*(settings for _, settings in SECTIONS), VersionSource, BackendSettings):
        for setting in dataclasses.fields(settings):
            name = setting.name.removeprefix("drain_").removeprefix("logout_")
            in_seconds = f"{name.removesuffix('_ms')}_s"
            assert {name, in_seconds} & (keys | computed), f"{settings.__name__}.{setting.name}"


def test_two_tomcats_on_one_machine_are_natural(tmp_path: Path) -> None:
    inventory = load(tmp_path, SMALL)
    assert [backend.host for backend in inventory.backends.values()] == ["web1", "web1"]
    assert set(inventory.hosts) == {"lb1", "web1"}
    assert inventory.fleet.upstreams() == {"tomcat": frozenset({"app1", "app2"})}


def test_durations_in_seconds_become_milliseconds(tmp_path: Path) -> None:
    text = SMALL + (
        "ssh: {connect_timeout_s: 1.5, keepalive_s: 7}\n"
        "nginx: {prove_limit_s: 0.0015}\n"
        "drain: {limit_s: 30, at_limit: force}\n"
        "rollout: {ready_limit_s: 60.25, busy_limit_s: 9, on_failure: back-node, attempts_max: 4}\n"
        "health: {timeout_s: 0.25, interval_min_ms: 5}\n"
        "warm_up: {limit_ms: 20, timeout_s: 3}\n"
        "session_store: {url: 'redis://h', latency_max_ms: 9, timeout_s: 1, deadline_s: 2.5}\n"
    )
    inventory = load(tmp_path, text)
    host = inventory.hosts["web1"]
    assert (host.connect_timeout_ms, host.keepalive_s) == (1500, 7)
    assert inventory.load_balancers["lb1"].prove_limit_ms == 2
    assert inventory.fleet.policy == Policy(
        drain_limit_ms=30_000,
        drain_at_limit=DrainAtLimit.FORCE,
        on_failure=OnFailure.BACK_NODE,
        attempts_max=4,
        ready_limit_ms=60_250,
        busy_limit_ms=9_000,
    )
    assert isinstance(inventory.fleet.policy.drain_at_limit, DrainAtLimit)
    health = inventory.backends["app1"].health
    assert (health.timeout_ms, health.interval_min_ms) == (250, 5)
    warm_up = inventory.backends["app1"].warm_up
    assert (warm_up.limit_ms, warm_up.timeout_ms) == (20, 3_000)
    store = inventory.session_store
    assert (store.latency_max_ms, store.timeout_ms, store.deadline_ms) == (9, 1_000, 2_500)


def test_overrides_are_laid_over_the_defaults_key_by_key(tmp_path: Path) -> None:
    text = replaced(
        SMALL,
        ("lb1: {}", "lb1: {address: 10.0.0.1, port: 2222}"),
        ("[{name: lb1}]", "[{name: lb1, nginx: {pid_file: /run/b.pid}}]"),
        ("{catalina_base: /srv/app1}", "{catalina_base: /srv/app1, keep: 9}, health: {streak: 7}"),
    )
    text += "ssh: {user: deploy, port: 2000}\nnginx: {binary: /opt/nginx, pid_file: /run/a.pid}\n"
    text += "health: {path: /up, streak: 5, version: {json: build.version}}\n"
    inventory = load(tmp_path, text)
    lb1, web1 = inventory.hosts["lb1"], inventory.hosts["web1"]
    assert (lb1.address, lb1.port, lb1.user) == ("10.0.0.1", 2222, "deploy")
    assert (web1.port, web1.user) == (2000, "deploy")
    nginx = inventory.load_balancers["lb1"]
    assert (nginx.binary, nginx.pid_file) == ("/opt/nginx", "/run/b.pid")
    app1, app2 = inventory.backends["app1"], inventory.backends["app2"]
    assert (app1.health.path, app1.health.streak, app2.health.streak) == ("/up", 7, 5)
    assert app1.health.version == VersionSource(json="build.version")
    assert (app1.strategy.keep, app2.strategy.keep) == (9, TomcatSettings("", "", "").keep)


def test_restart_displaces_an_inherited_stop_and_start(tmp_path: Path) -> None:
    inventory = load(tmp_path, RELEASE)
    first, second = (inventory.backends[name].strategy for name in ("web1", "web2"))
    assert isinstance(first, ReleaseSettings)
    assert isinstance(second, ReleaseSettings)
    assert (first.stop, first.start, first.restart) == (("a",), ("b",), ())
    assert (second.stop, second.start, second.restart) == ((), (), ("c",))
    assert second.state_dir == "/srv/shop/.rolling-deploy"


def test_stop_and_start_displace_an_inherited_restart(tmp_path: Path) -> None:
    text = replaced(
        RELEASE,
        ("stop: [a], start: [b]", "restart: [r]"),
        ("restart: [c]", "stop: [a], start: [b]"),
    )
    strategy = load(tmp_path, text).backends["web2"].strategy
    assert isinstance(strategy, ReleaseSettings)
    assert (strategy.stop, strategy.start, strategy.restart) == (("a",), ("b",), ())


def test_another_strategy_inherits_nothing(tmp_path: Path) -> None:
    other = "{strategy: release, artifact: ../b.tar.gz, root: /srv/b/, restart: [r]}"
    text = replaced(SMALL, ("{catalina_base: /srv/app2}", other), ("}\nback", ", keep: 9}\nback"))
    strategy = load(tmp_path, text).backends["app2"].strategy
    assert strategy == ReleaseSettings(
        artifact=str(tmp_path.parent / "b.tar.gz"),
        root="/srv/b",
        state_dir="/srv/b/.rolling-deploy",
        restart=("r",),
    )


def test_the_parameters_of_a_server_are_written_as_nginx_writes_them(tmp_path: Path) -> None:
    server = (
        "servers: {tomcat: {parameters: [resolve], backup: false, fail_timeout: 10s, max_fails: 0, "
        "weight: 2, address: '10.0.0.11:8080'}}"
    )
    text = replaced(SMALL, ('address: "10.0.0.11:8080"', server))
    servers = load(tmp_path, text).backends["app1"].servers
    assert servers["tomcat"].parameters == (
        "weight=2",
        "max_fails=0",
        "fail_timeout=10s",
        "resolve",
    )


def test_a_backup_is_said_to_nginx(tmp_path: Path) -> None:
    third = (
        "  - {name: app3, host: web1, servers: {tomcat: {address: 'h:1', backup: true}}, "
        "upgrade: {catalina_base: /srv/app3}}\n"
    )
    assert load(tmp_path, SMALL + third).backends["app3"].servers["tomcat"].parameters == (
        "backup",
    )


def test_a_backend_may_be_in_several_upstreams(tmp_path: Path) -> None:
    text = replaced(
        SMALL,
        ("[{name: tomcat}]", "[{name: web}, {name: api}]"),
        ('address: "10.0.0.11:8080"', "servers: {api: {address: 'h:2'}, web: {address: 'h:1'}}"),
        ('address: "10.0.0.11:8081"', "servers: {api: {address: 'h:4'}, web: {address: 'h:3'}}"),
    )
    inventory = load(tmp_path, text)
    assert inventory.backends["app1"].probe_address == "h:2"
    assert inventory.fleet.backends[0].upstreams == {"web", "api"}


def test_only_hosts_that_are_used_are_reached(tmp_path: Path) -> None:
    text = replaced(SMALL, ("web1: {}}", "web1: {}, redis1: {}, spare: {}}"))
    text += "session_store: {url: 'rediss://localhost:6380/2', via: redis1}\n"
    inventory = load(tmp_path, text)
    assert set(inventory.hosts) == {"lb1", "web1", "redis1"}
    assert inventory.session_store.via == "redis1"


def test_a_jump_host_is_reached_as_its_own_entry_says(tmp_path: Path) -> None:
    text = replaced(
        SMALL,
        ("lb1: {}", "lb1: {jump: gate}, gate: {address: 192.0.2.1, port: 2222, sudo: true}"),
    )
    text += "ssh: {user: deploy, key: keys/id, keepalive_s: 9}\n"
    inventory = load(tmp_path, text)
    lb1, web1 = inventory.hosts["lb1"], inventory.hosts["web1"]
    assert lb1.jump is not None
    assert (lb1.jump.name, lb1.jump.address, lb1.jump.port) == ("gate", "192.0.2.1", 2222)
    assert (lb1.jump.user, lb1.jump.keepalive_s) == ("deploy", 9)
    assert lb1.jump.key == str(tmp_path / "keys/id")
    assert (lb1.address, lb1.port, lb1.jump.jump, web1.jump) == ("lb1", 22, None, None)
    assert set(inventory.hosts) == {"lb1", "web1"}, "a jump host is no machine of the fleet"


def test_the_jump_host_of_all_is_left_out_where_it_stands_itself_or_null(tmp_path: Path) -> None:
    text = replaced(
        SMALL,
        ("web1: {}", "web1: {jump: null}, gate: {jump: outer}, outer: {}"),
    )
    hosts = load(tmp_path, text + "ssh: {jump: gate}\n").hosts
    assert hosts["web1"].jump is None
    gate = hosts["lb1"].jump
    assert gate is not None
    assert gate.jump is not None
    assert (gate.name, gate.jump.name, gate.jump.jump) == ("gate", "outer", None)


def test_a_machine_of_the_fleet_may_be_jumped_through(tmp_path: Path) -> None:
    hosts = load(tmp_path, SMALL + "ssh: {jump: lb1}\n").hosts
    assert hosts["lb1"].jump is None
    assert hosts["web1"].jump == hosts["lb1"]


def test_the_way_to_a_machine_is_no_part_of_what_a_rollout_is_bound_to(tmp_path: Path) -> None:
    straight = load(tmp_path, SMALL)
    bent = load(
        tmp_path, replaced(SMALL, ("web1: {}", "web1: {}, gate: {}")) + "ssh: {jump: gate}\n"
    )
    assert bent.hosts != straight.hosts
    assert places_of(bent) == places_of(straight)


def test_local_paths_are_relative_to_the_inventory_and_may_name_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    text = SMALL + "ssh: {key: keys/id, known_hosts: ~/known}\n"
    host = load(tmp_path, text).hosts["lb1"]
    assert (host.key, host.known_hosts) == (str(tmp_path / "keys/id"), "/home/somebody/known")


def test_a_relative_name_of_the_inventory_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, SMALL)
    monkeypatch.chdir(tmp_path)
    inventory = load_inventory(Path("inventory.yaml"))
    assert inventory.path == str(tmp_path / "inventory.yaml")
    assert inventory.template_name == str(tmp_path / "t.j2")


def test_messages_name_the_file_as_the_person_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inventory.yaml").write_text("- a\n")
    with pytest.raises(InventoryWrong) as wrong:
        load_inventory(Path("inventory.yaml"))
    assert wrong.value.problems[0].startswith("inventory.yaml:1: ")


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    assert load(tmp_path, SMALL).digest == hashlib.sha256(SMALL.encode()).hexdigest()


def test_without_a_template_the_shipped_one_is_used(tmp_path: Path) -> None:
    inventory = load(tmp_path, replaced(SMALL, ("template: t.j2\n", "")))
    assert inventory.template_name.endswith("templates/upstream.conf.j2")
    assert inventory.template == Path(inventory.template_name).read_text("utf-8")


def test_yaml_is_read_as_version_1_2(tmp_path: Path) -> None:
    text = SMALL + "variables: {a: no, b: 010, c: 2024-01-01, d: 0x1F, e: '5', f: 1e3, g: ~}\n"
    variables = load(tmp_path, text).variables
    assert variables == {
        "a": "no", "b": 10, "c": "2024-01-01", "d": 31, "e": "5", "f": 1000.0, "g": None,
    }  # fmt: skip


def test_anchors_and_merge_keys_can_be_used(tmp_path: Path) -> None:
    text = replaced(
        SMALL,
        ("{catalina_base: /srv/app1}", "&u {catalina_base: /srv/app1, keep: 8}"),
        ("{catalina_base: /srv/app2}", "{<<: *u, catalina_base: /srv/app2}"),
    )
    strategies = [backend.strategy for backend in load(tmp_path, text).backends.values()]
    assert [strategy.keep for strategy in strategies] == [8, 8]
    assert strategies[1].state_dir == "/srv/app2/.rolling-deploy"


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + SMALL).application == "shop"


def test_variables_may_have_several_lines_and_any_depth(tmp_path: Path) -> None:
    text = SMALL + 'variables: {notes: "a\\n\\tb", ports: [{http: 80}]}\n'
    assert load(tmp_path, text).variables == {"notes": "a\n\tb", "ports": [{"http": 80}]}


def test_only_given_keys_count() -> None:
    shape = InventoryShape.model_validate({"application": "a", "ssh": {"port": 22}})
    assert given(shape.ssh) == {"port": 22}
    assert given(None) == {}


def test_signs_of_logged_out_users_are_looked_for_only_if_the_section_is_there(
    tmp_path: Path,
) -> None:
    nothing = load(tmp_path, SMALL)
    assert not nothing.fleet.policy.watches_logouts
    assert nothing.logout_watch == LogoutWatchSettings()
    asked = load(tmp_path, SMALL + "logout_watch: {}\n")
    assert asked.fleet.policy == Policy(watches_logouts=True)
    text = (
        "logout_watch: {watch_s: 0, ratio: 2.5, new_min: 7, lines_max: 3, "
        "logs: [/var/log/app.log, 'logs/a.{date}.log'], patterns: ['lost'], ignore: ['report']}\n"
    )
    full = load(tmp_path, SMALL + text)
    assert full.fleet.policy == Policy(
        watches_logouts=True,
        watch_ms=0,
        logout_ratio=2.5,
        logout_new_min=7,
        logout_lines_max=3,
    )
    assert full.logout_watch == LogoutWatchSettings(
        ("/var/log/app.log", "logs/a.{date}.log"), ("lost",), ("report",)
    )


def test_losses_are_counted_only_as_far_as_the_section_asks(tmp_path: Path) -> None:
    nothing = load(tmp_path, SMALL)
    assert nothing.losses == LossSettings()
    assert not nothing.losses.is_configured
    assert not nothing.fleet.policy.counts_losses
    prober = load(tmp_path, SMALL + "losses: {prober: {path: /home, timeout_s: 3}}\n")
    assert prober.losses.prober == ProberSettings(path="/home", timeout_ms=3_000)
    assert not prober.losses.access_logs.is_read
    assert prober.fleet.policy.counts_losses
    assert prober.fleet.policy.max_errors is None
    logs = load(tmp_path, SMALL + "losses: {max_errors: 0, access_logs: {}}\n")
    assert logs.losses.access_logs == AccessLogSettings(is_read=True)
    assert logs.losses.prober.path == ""
    assert logs.fleet.policy.max_errors == 0


LB1 = "load_balancers: [{name: lb1}]\n"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("losses: {max_errors: 3}", "losses: should be `prober` or `access_logs` or both"),
        ("losses: {}", "losses: should be `prober` or `access_logs` or both, is neither of them"),
        ("losses: {prober: {}}", "losses.prober.path: should be set, is missing"),
        (
            "losses: {prober: {path: /}}\nload_balancers: [{name: lb1, access_log: /a.log}]",
            "load_balancers[lb1].access_log: should be left out without `losses.access_logs`",
        ),
        ("losses: {access_logs: {format: main}}", "should be left out without `path`, is set"),
        ("losses: {access_logs: {path: a.log}}", "should be an absolute path of a file"),
        ("losses: {max_errors: -1, access_logs: {}}", "a whole number from 0 to 100000"),
        ("losses: {prober: {path: home}}", "should be a path that begins with `/`"),
    ],
)
def test_losses_that_could_never_be_counted_are_refused(
    tmp_path: Path, section: str, message: str
) -> None:
    text = SMALL if "load_balancers" not in section else replaced(SMALL, (LB1, ""))
    with pytest.raises(InventoryWrong) as wrong:
        load(tmp_path, text + section + "\n")
    assert message in " ".join(wrong.value.problems)


def test_a_load_balancers_own_address_is_kept(tmp_path: Path) -> None:
    text = replaced(SMALL, ("[{name: lb1}]", '[{name: lb1, address: "10.0.0.1:8443"}]'))
    assert load(tmp_path, text).load_balancers["lb1"].address == "10.0.0.1:8443"
