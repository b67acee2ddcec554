"""From a survey to the first fact: who carries traffic, what the test needs, the way back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.errors import InventoryWrong
from rolling_deploy.operations.opening import (
    check_going_back,
    opened_from,
    planned_variants,
    serving_members,
    surroundings_of,
)
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import Survey
from rolling_deploy.operations.wire_backends import rewire_backends
from rolling_deploy.rollout.facts import Before, Purpose
from rolling_deploy.rollout.fleet import OnFailure, Policy
from rolling_deploy.upstreams.layout import Layout
from rolling_deploy.upstreams.merge import merge
from rolling_deploy.upstreams.reading import read_layout
from tests.local_connection import LocalConnection
from tests.survey_fixture import UPSTREAM, dump_of, facts_of, inventory_in
from tests.values import opened


def layout(tmp_path: Path, text: str = UPSTREAM) -> Layout:
    inventory = inventory_in(tmp_path)
    return merge(read_layout(text), inventory.upstreams, inventory.backends).layout


def members(tmp_path: Path, *texts: str) -> dict[str, tuple[str, ...]]:
    layouts = {f"lb{n}": layout(tmp_path, text) for n, text in enumerate(texts, 1)}
    return serving_members(inventory_in(tmp_path), layouts)


def with_line(number: int, parameter: str) -> str:
    return UPSTREAM.replace(f"808{number};", f"808{number} {parameter};")


def test_a_setup_is_not_gone_on_with_once_the_inventory_wires_nothing(tmp_path: Path) -> None:
    site = Site(inventory_in(tmp_path), {})
    rewire_backends(site, ())
    with pytest.raises(InventoryWrong) as raised:
        rewire_backends(site, ("app1", "app2"))
    assert len(raised.value.problems) == 2
    assert "inventory of the opening" in raised.value.next_step


@pytest.mark.parametrize("parameter", ["down", "backup"])
def test_a_line_that_carries_nothing_is_no_capacity(parameter: str, tmp_path: Path) -> None:
    text = with_line(1, parameter)
    assert members(tmp_path, text, text) == {"tomcat": ("app1", "app3")}


def test_a_backend_that_an_earlier_rollout_left_out_still_counts_as_a_member(
    tmp_path: Path,
) -> None:
    text = with_line(1, "down").replace("down;", "down; # rolling-deploy: out")
    assert members(tmp_path, text, text) == {"tomcat": ("app1", "app2", "app3")}


def test_each_load_balancer_that_differs_has_a_guard_of_its_own(tmp_path: Path) -> None:
    assert members(tmp_path, with_line(0, "down"), with_line(1, "down")) == {
        "tomcat on lb1": ("app2", "app3"),
        "tomcat on lb2": ("app1", "app3"),
    }


def test_backups_count_where_nobody_else_serves(tmp_path: Path) -> None:
    text = UPSTREAM.replace("8080;", "8080 down;").replace("8081;", "8081 backup;")
    text = text.replace("8082;", "8082 backup;")
    assert members(tmp_path, text) == {"tomcat": ("app2", "app3")}


def test_a_line_that_is_still_to_be_added_counts(tmp_path: Path) -> None:
    text = UPSTREAM.replace("    server 127.0.0.1:8082;\n", "")
    assert members(tmp_path, text) == {"tomcat": ("app1", "app2", "app3")}


def test_a_backend_that_is_no_member_is_still_rendered_out_alone() -> None:
    first = opened(
        upstreams={"web": ("app1", "app2"), "old": (), "api": ("app3",)},
        policy=Policy(wave_size=3),
    )
    singles = [out for out in planned_variants(first) if len(out) == 1]
    assert singles == [frozenset({"app1"}), frozenset({"app2"})]


def test_the_test_of_the_renderings_loads_modules_from_where_nginx_would() -> None:
    main = "load_module modules/a.so;\nload_module /opt/b.so;\nuser www-data;\nhttp { }"
    around = surroundings_of(facts_of(dump_of(main=main)))
    assert around.load_modules == ["/usr/share/nginx/modules/a.so", "/opt/b.so"]
    assert around.user_directive == "www-data"


@pytest.mark.parametrize(
    ("main", "file", "resolver"),
    [
        ("http { resolver 10.0.0.2 valid=5s; }", "", ("10.0.0.2", "valid=5s")),
        ("http { include conf.d/*; }", "resolver 10.0.0.3;", ("10.0.0.3",)),
        ("http { server { resolver 10.0.0.4; } }", "", ()),
        ("stream { resolver 10.0.0.5; }", "", ()),
    ],
)
def test_the_resolver_of_the_http_block_goes_with_the_renderings(
    main: str, file: str, resolver: tuple[str, ...]
) -> None:
    assert tuple(surroundings_of(facts_of(dump_of(main=main, dns=file))).resolver) == resolver


@pytest.mark.parametrize(
    ("artifact", "words"),
    [("dir:ROOT", "cannot be put in place again"), (None, "nothing is deployed"), ("ab12", "")],
)
def test_going_back_is_refused_where_there_is_no_way_back(
    artifact: str | None, words: str, tmp_path: Path
) -> None:
    site = Site(inventory_in(tmp_path), {"web1": LocalConnection()})
    first = opened(
        order=("app1",),
        policy=Policy(on_failure=OnFailure.BACK_NODE),
        before={"app1": Before(artifact, "r1")},
    )
    assert [words in check.detail for check in check_going_back(site, first)] == (
        [True] if words else []
    )
    halting = replace(first, policy=Policy(on_failure=OnFailure.HALT))
    assert check_going_back(site, halting) == ()


def test_who_opened_it_is_told_with_the_name_that_the_machine_goes_by(tmp_path: Path) -> None:
    site = Site(inventory_in(tmp_path), {})
    found = Survey({}, {}, (), (), ())
    assert opened_from(site, found, purpose=Purpose.ADOPT, host="ci-7").by.endswith(" on ci-7")
