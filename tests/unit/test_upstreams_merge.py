"""Bringing a file and the inventory together."""

from __future__ import annotations

import pytest

from rolling_deploy.errors import InventoryWrong
from rolling_deploy.settings import (
    BackendSettings,
    HealthSettings,
    ReleaseSettings,
    ServerSettings,
    UpstreamSettings,
    WarmUpSettings,
)
from rolling_deploy.upstreams.addresses import Owners, canonical
from rolling_deploy.upstreams.layout import Directive, ServerLine, text_of
from rolling_deploy.upstreams.merge import Foreign, Merged, ParameterDifference, merge
from rolling_deploy.upstreams.reading import layout_from_settings, read_layout


def backend(name: str, **servers: tuple[str, ...]) -> BackendSettings:
    lines = {upstream: ServerSettings(a, tuple(p)) for upstream, (a, *p) in servers.items()}
    return BackendSettings(
        name,
        name,
        lines,
        next(iter(lines.values())).address,
        ReleaseSettings("a", "/r", "/s"),
        HealthSettings(),
        WarmUpSettings(),
    )


def merged(text: str, *backends: BackendSettings) -> Merged:
    names = {upstream for b in backends for upstream in b.servers}
    settings = {name: UpstreamSettings(name) for name in sorted(names)}
    return merge(read_layout(text), settings, {b.name: b for b in backends})


def lines(result: Merged, upstream: int = 0) -> list[str]:
    return [text_of(line) for line in result.layout.upstreams[upstream].servers]


def test_declared_parameters_win_in_their_place_and_the_difference_is_reported() -> None:
    result = merged(
        "upstream s { server 10.0.0.1:80 weight=2 max_fails=3 backup; }",
        backend("a", s=("10.0.0.1:80", "weight=5", "fail_timeout=3s")),
    )
    assert lines(result) == ["server 10.0.0.1:80 weight=5 max_fails=3 backup fail_timeout=3s;"]
    assert result.differences == (
        ParameterDifference("s", "a", "10.0.0.1:80", "weight=2", "weight=5"),
        ParameterDifference("s", "a", "10.0.0.1:80", "", "fail_timeout=3s"),
    )


def test_a_file_that_agrees_is_unchanged_and_foreign_servers_stay() -> None:
    result = merged(
        "upstream s { server 10.0.0.9:80 weight=7; server 10.0.0.1:80 weight=2; }",
        backend("a", s=("10.0.0.1:80", "weight=2")),
    )
    assert result.foreign == (Foreign("s", "10.0.0.9:80"),)
    assert lines(result) == ["server 10.0.0.9:80 weight=7;", "server 10.0.0.1:80 weight=2;"]


def test_a_missing_backend_gets_a_line_after_the_last_server() -> None:
    result = merged(
        "upstream s {\n server 10.0.0.1:80;\n keepalive 4;\n}",
        backend("a", s=("10.0.0.1:80",)),
        backend("b", s=("10.0.0.2:80", "weight=2")),
    )
    assert [(m.backend, m.is_commented_out) for m in result.missing] == [("b", False)]
    assert result.layout.upstreams[0].entries[1:] == (
        ServerLine("10.0.0.2:80", ("weight=2",), backend="b"),
        Directive("keepalive 4"),
    )


def test_a_line_that_a_person_commented_out_comes_back_down() -> None:
    result = merged(
        "upstream s {\n server 10.0.0.1:80;\n #server 10.0.0.2 weight=3;\n}",
        backend("a", s=("10.0.0.1:80",)),
        backend("b", s=("10.0.0.2:80",)),
    )
    assert result.missing[0].is_commented_out
    assert "server 10.0.0.2:80 down;" in lines(result)


def test_a_parked_backend_gets_no_live_line_in_another_upstream() -> None:
    result = merged(
        "upstream s { server 10.0.0.1:80 down; server 10.0.0.2:80; }"
        "upstream t { server 10.0.0.2:81; }",
        backend("a", s=("10.0.0.1:80",), t=("10.0.0.1:81",)),
        backend("b", s=("10.0.0.2:80",), t=("10.0.0.2:81",)),
    )
    assert result.parked == {"a"}
    assert lines(result, 1) == ["server 10.0.0.2:81;", "server 10.0.0.1:81 down;"]


def test_parked_means_every_line_and_partly_parked_means_some() -> None:
    result = merged(
        "upstream s { server a:1 down; server b:1 down; server c:1; }"
        "upstream t { server a:2 down; server b:2; server c:2; }",
        *(backend(n, s=(f"{n}:1",), t=(f"{n}:2",)) for n in "abc"),
    )
    assert result.parked == {"a"}
    assert result.partly_parked == {"b"}


def test_a_line_in_an_upstream_that_the_inventory_does_not_name_is_still_the_backends() -> None:
    result = merged(
        "upstream s { server a:1; } upstream old { server A:1; server z:1; }",
        backend("a", s=("a:1", "weight=2")),
    )
    assert result.foreign_upstreams == ("old",)
    assert [(u.upstream, u.backend) for u in result.undeclared] == [("old", "a")]
    assert result.layout.upstreams[1].servers[0] == ServerLine("A:1", backend="a")


def test_addresses_match_by_default_port_and_case_but_never_by_a_guess() -> None:
    assert canonical("App1") == canonical("app1:80")
    assert canonical("[::1]") == "[::1]:80"
    assert canonical("[::1]:8080") == "[::1]:8080"
    assert canonical("localhost:80") == canonical("127.0.0.1:80") != canonical("[::1]:80")
    assert canonical("App1.:080") == canonical("app1")
    assert canonical("web1:80") != canonical("web1.internal:80")
    here = merged("upstream s { server 127.0.0.1:8080; }", backend("a", s=("localhost:8080",)))
    assert not here.foreign
    assert not here.missing
    result = merged("upstream s { server web1.lan:8080; }", backend("a", s=("web1:8080",)))
    assert result.foreign == (Foreign("s", "web1.lan:8080"),)
    assert [m.backend for m in result.missing] == ["a"]


def test_without_a_file_the_blocks_come_from_the_inventory() -> None:
    settings = {"s": UpstreamSettings("s", ("ip_hash", "keepalive 16"))}
    backends = {"a": backend("a", s=("a:1",)), "b": backend("b", s=("b:1", "weight=2"))}
    result = merge(layout_from_settings(settings), settings, backends)
    assert [text_of(entry) for entry in result.layout.upstreams[0].entries] == [
        "ip_hash;",
        "keepalive 16;",
        "server a:1;",
        "server b:1 weight=2;",
    ]


@pytest.mark.parametrize("option", ["a; b", "server x", "include x", "a {}", "# x", "'", ""])
def test_an_option_that_is_not_one_directive_is_refused(option: str) -> None:
    with pytest.raises(InventoryWrong) as caught:
        layout_from_settings({"s": UpstreamSettings("s", (option,))})
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "hostile", ["weight=2;server evil:1", "a b", "x\ny", "{", "}", "#", "'", '"', "", "down"]
)
def test_a_hostile_parameter_or_address_is_refused(hostile: str) -> None:
    with pytest.raises(InventoryWrong):
        merged("upstream s { server a:1; }", backend("a", s=("a:1", hostile)))
    if hostile != "down":
        with pytest.raises(InventoryWrong):
            merged("upstream s { server a:1; }", backend("a", s=(hostile,)))


@pytest.mark.parametrize("spelling", ["10.0.0.1:8080", "10.0.0.1:08080"])
def test_an_address_of_two_backends_is_refused_wherever_they_have_it(spelling: str) -> None:
    with pytest.raises(InventoryWrong) as wrong:
        Owners({"a": ["10.0.0.1:8080"], "b": [spelling]})
    assert "a and b" in wrong.value.problems[0]
    with pytest.raises(InventoryWrong):
        merged(
            "upstream s { server 10.0.0.1:8080; } upstream t { server 10.0.0.1:8080; }",
            backend("a", s=("10.0.0.1:8080",)),
            backend("b", t=(spelling,)),
        )


def test_a_backend_may_have_one_address_in_several_upstreams() -> None:
    assert Owners({"a": ["10.0.0.1:80", "10.0.0.1"], "b": []}).of("10.0.0.1:80") == "a"
