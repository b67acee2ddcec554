"""Which logs a configuration has for our upstreams, and what their lines add up to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.operations.log_sources import LogSources, Tally, sources_of
from rolling_deploy.remote.prober import AGENT
from rolling_deploy.rollout.losses import NOBODY, UNTOLD, Count
from rolling_deploy.settings import AccessLogSettings, Inventory, LossSettings
from rolling_deploy.upstreams.access_logs import AccessLog, formats_in, log_at, logs_of
from rolling_deploy.upstreams.log_format import COMBINED, LogFormat
from rolling_deploy.upstreams.routes import parse_dump
from tests.unit.test_inventory_load import SMALL, load

MAIN = """\
# configuration file /etc/nginx/nginx.conf:
http {{
    log_format full escape=json '$status $upstream_addr'
        ' $http_user_agent\\t';
    log_format blind '$remote_addr';
    {http}
    include conf.d/*.conf;
}}
# configuration file /etc/nginx/conf.d/upstream.conf:
upstream tomcat {{ server 10.0.0.11:8080; server 10.0.0.11:8081; server 10.0.0.99:1; }}
upstream other {{ server 10.0.9.9:80; }}
# configuration file /etc/nginx/conf.d/site.conf:
server {{
    {server}
    location / {{
        {location}
        proxy_pass http://tomcat;
    }}
    location /other {{ access_log /var/log/other.log; proxy_pass http://other; }}
}}
"""


def dump(http: str = "", server: str = "", location: str = "") -> str:
    return MAIN.format(http=http, server=server, location=location)


def paths(http: str = "", server: str = "", location: str = "", prefix: str = "") -> list[str]:
    found = logs_of(parse_dump(dump(http, server, location)), {"tomcat"}, prefix=prefix)
    assert not found.gaps, found
    return [log.path for log in found.logs]


def gaps(http: str = "", server: str = "", location: str = "") -> str:
    return "; ".join(logs_of(parse_dump(dump(http, server, location)), {"tomcat"}).gaps)


ANY = "access_log /var/log/a.log full;"


def test_the_innermost_place_that_has_a_log_decides() -> None:
    assert paths(http=ANY) == ["/var/log/a.log"]
    assert paths(http=ANY, server="access_log /var/log/b.log;") == ["/var/log/b.log"]
    assert paths(ANY, "access_log /var/log/b.log;", "access_log /c.log full; ") == ["/c.log"]


def test_of_several_logs_for_one_request_the_one_that_tells_most_is_read() -> None:
    for_errors = "access_log /var/log/errors.log full if=$is_error;"
    assert paths(server=f"{for_errors} access_log /var/log/b.log; {ANY}") == ["/var/log/a.log"]
    twice = logs_of(parse_dump(TWICE), {"tomcat"})
    assert [log.path for log in twice.logs] == ["/a.log", "/b.log"]
    assert "counted twice" in twice.gaps[0]


TWICE = """\
# configuration file /etc/nginx/nginx.conf:
http {
    server { access_log /a.log; proxy_pass http://tomcat; }
    server { access_log /b.log; proxy_pass http://tomcat; }
    server { access_log /a.log; access_log /b.log; proxy_pass http://tomcat; }
}
"""


def test_a_log_of_another_applications_place_is_none_of_ours() -> None:
    assert "/var/log/other.log" not in paths(http=ANY)


def test_a_relative_name_is_below_the_prefix() -> None:
    assert paths(http="access_log logs/a.log;", prefix="/srv/nginx/") == ["/srv/nginx/logs/a.log"]
    assert "relative" in gaps(http="access_log logs/a.log;")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("access_log off;", "writes nothing"),
        ("access_log syslog:server=10.0.0.5;", "goes to syslog"),
        ("access_log /var/log/$host.log;", "differs from request to request"),
        ("access_log /var/log/a.log full gzip;", "is compressed"),
        ("access_log /var/log/a.log blind;", "without `$status`"),
        ("access_log /var/log/a.log unknown;", "not in the configuration: unknown"),
        ("", "no `access_log`"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_reason(line: str, reason: str) -> None:
    found = logs_of(parse_dump(dump(server=line)), {"tomcat"})
    assert found.logs == ()
    assert reason in "; ".join(found.gaps)


def test_a_configuration_that_does_not_use_our_upstreams_says_so() -> None:
    found = logs_of(parse_dump(dump(http=ANY)), {"elsewhere"})
    assert "no place in the configuration uses our upstreams" in found.gaps


def test_what_is_written_late_or_in_part_is_said() -> None:
    text = dump(http="access_log /a.log full buffer=32k flush=5s if=$loggable;")
    (log,) = logs_of(parse_dump(text), {"tomcat"}).logs
    assert "only requests of `if=$loggable`" in log.gaps
    assert any("buffer=32k" in gap for gap in log.gaps)


def test_formats_are_joined_from_their_parts_and_unescaped() -> None:
    formats = formats_in(parse_dump(dump()))
    assert formats["full"] == LogFormat("full", "$status $upstream_addr $http_user_agent\t", "json")
    assert formats["combined"] == COMBINED


def test_a_log_that_a_person_named_has_the_format_of_the_configuration() -> None:
    parsed = parse_dump(dump(http=ANY))
    full = log_at(parsed, "/var/log/a.log", "")
    assert isinstance(full, AccessLog)
    assert full.format.name == "full"
    named = log_at(parsed, "/var/log/a.log", "combined")
    assert isinstance(named, AccessLog)
    assert named.format == COMBINED
    elsewhere = log_at(parsed, "/var/log/c.log", "")
    assert isinstance(elsewhere, AccessLog)
    assert elsewhere.format == COMBINED
    assert "no log_format `nope`" in str(log_at(parsed, "/var/log/a.log", "nope"))
    assert "without `$status`" in str(log_at(parsed, "/var/log/a.log", "blind"))


# --- counting


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    losses = LossSettings(access_logs=AccessLogSettings(is_read=True))
    return replace(load(tmp_path, SMALL), losses=losses)


def tally(sources: LogSources, *lines: str, has_prober: bool = True) -> Tally:
    added = Tally()
    log = sources.logs[0]
    raw = [f"{line}\t".encode() for line in lines]
    added.add(sources, log.format, raw, has_prober=has_prober)
    return added


def test_requests_are_counted_by_backend_and_retries_where_they_began(inventory: Inventory) -> None:
    sources = sources_of(inventory, "lb1", parse_dump(dump(http=ANY)), "")
    counted = tally(
        sources,
        "200 10.0.0.11:8080 a",
        "502 10.0.0.11:8081 a",
        "499 10.0.0.11:8081 a",
        "200 10.0.0.11:8080, 10.0.0.11:8081 a",
        "502 10.0.0.11:8080, tomcat a",
        "404 - a",
        "200 10.0.0.99:1 a",
    )
    assert counted.by_backend == {
        "app1": Count(1, 0, 0, 2),
        "app2": Count(3, 1, 1),
        NOBODY: Count(3, 1),
    }
    assert counted.total == Count(7, 2, 1, 2)
    assert not counted.has_odd_lines


def test_an_internal_redirect_is_no_retry_and_every_try_beyond_the_first_is_one(
    inventory: Inventory,
) -> None:
    sources = sources_of(inventory, "lb1", parse_dump(dump(http=ANY)), "")
    one, two = "10.0.0.11:8080", "10.0.0.11:8081"
    assert tally(sources, f"200 {one} : {two} a").by_backend == {"app2": Count(1)}
    counted = tally(sources, f"200 {one}, {two} : {two}, {one}, {two} a")
    assert counted.by_backend == {"app1": Count(retried=2), "app2": Count(1, retried=1)}


def test_another_applications_requests_in_the_same_log_are_left_out(inventory: Inventory) -> None:
    sources = sources_of(inventory, "lb1", parse_dump(dump(http=ANY)), "")
    assert tally(sources, "500 10.0.9.9:80 a", "500 other a").total == Count()


def test_the_probers_own_lines_are_left_to_the_prober(inventory: Inventory) -> None:
    sources = sources_of(inventory, "lb1", parse_dump(dump(http=ANY)), "")
    line = f"500 10.0.0.11:8080 {AGENT}"
    assert tally(sources, line).total == Count()
    assert tally(sources, line, has_prober=False).total == Count(1, 1)


def test_lines_of_another_format_are_noticed(inventory: Inventory) -> None:
    sources = sources_of(inventory, "lb1", parse_dump(dump(http=ANY)), "")
    assert tally(sources, "oops").has_odd_lines


def test_what_a_format_does_not_tell_is_a_gap_and_no_zero(inventory: Inventory) -> None:
    sources = sources_of(inventory, "lb1", parse_dump(dump(http="access_log /a.log;")), "")
    assert any("retries and backends: not counted" in gap for gap in sources.all_gaps)
    added = Tally()
    line = b'10.0.0.9 - - [22/Nov/2026:17:50:22 +0000] "GET / HTTP/1.1" 502 157 "-" "curl"'
    added.add(sources, sources.logs[0].format, [line], has_prober=False)
    assert added.by_backend == {UNTOLD: Count(1, 1)}


def test_upstreams_by_name_cannot_be_told_apart_in_the_log(inventory: Inventory) -> None:
    text = dump(http=ANY).replace("server 10.0.0.99:1", "server app9.internal:8080")
    sources = sources_of(inventory, "lb1", parse_dump(text), "")
    assert any("backends: not counted" in gap for gap in sources.all_gaps)
    counted = tally(sources, "200 10.0.0.77:8080 a")
    assert counted.total == Count(1)


def test_a_path_in_the_inventory_stands_before_the_configuration(inventory: Inventory) -> None:
    wanted = AccessLogSettings(is_read=True, path="/var/log/mine.log", format="full")
    own = replace(inventory, losses=LossSettings(access_logs=wanted))
    sources = sources_of(own, "lb1", parse_dump(dump(http=ANY)), "")
    assert [(log.path, log.format.name) for log in sources.logs] == [("/var/log/mine.log", "full")]
    balancer = replace(own.load_balancers["lb1"], access_log="/var/log/its-own.log")
    its_own = replace(own, load_balancers={"lb1": balancer})
    (log,) = sources_of(its_own, "lb1", parse_dump(dump(http=ANY)), "").logs
    assert (log.path, log.format.name) == ("/var/log/its-own.log", "full")
    bad = replace(own, losses=LossSettings(access_logs=replace(wanted, format="nope")))
    assert sources_of(bad, "lb1", parse_dump(dump(http=ANY)), "").logs == ()
    assert "nope" in sources_of(bad, "lb1", parse_dump(dump(http=ANY)), "").gaps[0]
