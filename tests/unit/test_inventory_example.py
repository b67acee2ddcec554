"""The example shows every key, the reference lists every key, and both are the code's."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from rolling_deploy.inventory import load_inventory
from rolling_deploy.inventory.document import read_document
from rolling_deploy.inventory.fields import Shape
from rolling_deploy.inventory.model import InventoryShape, UpgradeShape
from rolling_deploy.inventory.problems import Problems
from rolling_deploy.inventory.reference import reference
from rolling_deploy.inventory.shape import inherit_strategy
from rolling_deploy.inventory.walk import keys_of, mappings, shapes_in
from rolling_deploy.settings import ReleaseSettings

TOP = Path(__file__).parents[2]
EXAMPLE = TOP / "inventory.example.yaml"
COMMENTED_KEY = re.compile(r"(?m)^( *)#(?=[^ \n]|  )")
"""`#` right before a word, or before the deeper lines below it; explanations have one space."""

Key = tuple[str, str]


def with_every_key() -> str:
    """Answers the example with its commented keys taken in."""
    return COMMENTED_KEY.sub(r"\1", EXAMPLE.read_text("utf-8"))


def owner_of(shape: type[Shape], name: str) -> str:
    """Answers the class that a key is written in; others that have it inherit it."""
    first = [cls for cls in shape.__mro__ if name in inspect.get_annotations(cls)]
    return "upgrade" if first[-1] is UpgradeShape else first[-1].__name__


def accepted() -> set[Key]:
    """Answers every key that an inventory may have, each with the shape it belongs to."""
    keys: set[Key] = set()
    waiting: list[type[Shape]] = [InventoryShape]
    while waiting:
        shape = waiting.pop()
        for (key, field), name in zip(keys_of(shape).items(), shape.model_fields, strict=True):
            keys.add((owner_of(shape, name), key))
            waiting += shapes_in(field.annotation)
    return keys


def shown(text: str) -> set[Key]:
    """Answers every key that stands in a text, each with the shape it belongs to."""
    problems = Problems("example")
    assert read_document(text.encode(), problems)
    assert not problems.found
    inherit_strategy(problems.data, problems)
    keys: set[Key] = set()
    for shape, _, value in mappings(InventoryShape, problems.data):
        names = dict(zip(keys_of(shape), shape.model_fields, strict=True))
        keys |= {(owner_of(shape, names[key]) if key in names else "unknown", key) for key in value}
    return keys


def test_the_example_shows_exactly_the_keys_that_are_accepted() -> None:
    assert shown(with_every_key()) == accepted()


def test_the_example_loads_and_is_the_fleet_it_describes() -> None:
    inventory = load_inventory(EXAMPLE)
    assert [backend.name for backend in inventory.fleet.backends] == ["app1", "app2"]
    assert {backend.host for backend in inventory.backends.values()} == {"web1"}
    assert [b.probe_address[-4:] for b in inventory.backends.values()] == ["8080", "8081"]
    assert inventory.session_store.url == "redis://localhost:6379/0"
    assert inventory.session_store.via == "web1"


def test_the_example_loads_with_every_commented_key_too(tmp_path: Path) -> None:
    file = tmp_path / "inventory.yaml"
    file.write_text(with_every_key())
    (tmp_path / "templates").mkdir()
    for name in ("upstream.conf.j2", "context.xml.j2"):
        (tmp_path / "templates" / name).write_text("")
    inventory = load_inventory(file)
    assert list(inventory.backends) == ["app1", "app2", "app3", "app4"]
    assert isinstance(inventory.backends["app4"].strategy, ReleaseSettings)


@pytest.mark.parametrize("key", ["max_conns", "catalina_base", "restart", "pattern", "via"])
def test_a_key_that_is_missing_from_the_example_is_noticed(key: str) -> None:
    text = re.sub(rf"(?m)\b{key}:", "another:", with_every_key())
    assert key in {name for _, name in accepted() - shown(text)}


def test_the_reference_is_up_to_date() -> None:
    page = TOP / "docs" / "inventory.md"
    command = "python -m rolling_deploy.inventory.reference > docs/inventory.md"
    assert page.read_text("utf-8") == reference(), f"run `{command}`"


def test_the_reference_lists_every_key() -> None:
    rows = re.findall(r"(?m)^\| `([a-z0-9_]+)` \|", reference())
    assert set(rows) == {key for _, key in accepted()}


def test_the_user_of_the_example_can_write_the_state_directory_that_it_says_how_to_make() -> None:
    inventory = load_inventory(EXAMPLE)
    state_dir = inventory.load_balancers["lb1"].state_dir
    user = inventory.hosts["lb1"].user
    assert not state_dir.startswith("/etc/")
    assert f"sudo install -d -o {user} -m 700 {state_dir}\n" in EXAMPLE.read_text("utf-8")
