"""Whatever the file holds, an inventory is loaded or refused; nothing else ever happens."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolling_deploy.errors import InventoryWrong
from rolling_deploy.inventory import load_inventory
from rolling_deploy.inventory.model import InventoryShape
from rolling_deploy.inventory.walk import keys_of, shapes_in

PROBLEM = re.compile(r"[^\n]*inventory\.yaml:[0-9]+: [^\n]*should be [^\n]+, is [^\n]+")
SOUND: dict[str, Any] = {
    "application": "shop",
    "variables": {"a": 1},
    "ssh": {"user": "deploy", "sudo": True},
    "hosts": {"lb1": {"address": "10.0.0.1"}, "web1": {}},
    "nginx": {"test": ["nginx", "-t"]},
    "load_balancers": [{"name": "lb1", "nginx": {"prove_limit_s": 2}}],
    "upstreams": [{"name": "tomcat", "options": ["keepalive 16"]}],
    "template": "t.j2",
    "upgrade": {"strategy": "tomcat", "artifact": "a.war", "keep": 3},
    "health": {"path": "/", "version": {"header": "X-Version"}, "headers": {"A": "b"}},
    "drain": {"limit_s": 3},
    "rollout": {"wave_size": 1},
    "backends": [
        {
            "name": f"app{n}",
            "host": "web1",
            "servers": {"tomcat": {"address": f"10.0.0.2:808{n}", "weight": 2}},
            "upgrade": {"catalina_base": f"/srv/app{n}"},
        }
        for n in range(2)
    ],
    "session_store": {"url": "redis://localhost", "via": "web1"},
}


def _all_keys() -> list[str]:
    keys: set[str] = set()
    waiting = [InventoryShape]
    while waiting:
        for key, field in keys_of(waiting.pop()).items():
            keys.add(key)
            waiting += shapes_in(field.annotation)  # type: ignore[arg-type] # any shape
    return sorted(keys)


KEYS = st.sampled_from(_all_keys()) | st.text(max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["tomcat", "release", "shop", "/srv", "a:1", "redis://:pw@h", "x(", "a.war"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)
SIGNS = st.text(alphabet="ab:-[]{}&*!|>%@`'\"#?,.<~ \n\t0\u00e9\ufeff\u2028", max_size=60)
LIMITS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refused_or_loaded(content: bytes) -> bool:
    """Answers whether the inventory was loaded; fails for any other end than a clear refusal."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "inventory.yaml")
        file.write_bytes(content)
        Path(directory, "t.j2").write_text("")
        try:
            load_inventory(file)
        except InventoryWrong as wrong:
            problems = wrong.problems
        else:
            return True
    assert problems
    unclear = [problem for problem in problems if not PROBLEM.fullmatch(problem)]
    assert not unclear
    return False


@LIMITS
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_clearly(content: bytes) -> None:
    assert not refused_or_loaded(content)


@LIMITS
@given(SIGNS)
def test_any_text_with_the_signs_of_yaml_is_refused_clearly(text: str) -> None:
    assert not refused_or_loaded(text.encode())


@LIMITS
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_values_under_any_keys_are_refused_clearly(document: dict[str, Any]) -> None:
    assert not refused_or_loaded(json.dumps(document).encode())


@st.composite
def one_place_changed(draw: st.DrawFn) -> dict[str, Any]:
    """Answers the sound inventory with something else in one of its places."""
    document: dict[str, Any] = json.loads(json.dumps(SOUND))
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or draw(st.booleans()):
            break
        place = inner
    how = draw(st.sampled_from(["replace", "remove", "add"]))
    if how == "remove":
        del place[key]
    elif how == "add" and isinstance(place, dict):
        place[draw(KEYS)] = draw(VALUES)
    else:
        place[key] = draw(VALUES)
    return document


@settings(LIMITS, max_examples=200)
@given(one_place_changed())
def test_a_sound_inventory_with_one_change_is_loaded_or_refused_clearly(
    document: dict[str, Any],
) -> None:
    refused_or_loaded(json.dumps(document).encode())


def test_the_inventory_that_is_changed_is_sound() -> None:
    assert refused_or_loaded(json.dumps(SOUND).encode())
