"""What a person reads about a wrong inventory, word for word. The cases stand beside this file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from rolling_deploy.errors import InventoryWrong
from rolling_deploy.inventory import load_inventory

CASES = Path(__file__).with_suffix(".txt")


@dataclass(frozen=True)
class Case:
    """One change to the sound inventory, and every message it should lead to."""

    name: str
    text: str
    messages: tuple[str, ...]


def _parts() -> dict[str, list[str]]:
    """Answers the lines of each part of the file of cases, by its heading."""
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in CASES.read_text("utf-8").splitlines():
        if line.startswith("=== "):
            name = line.removeprefix("=== ")
            assert name not in parts, f"two cases are called `{name}`"
            lines = parts.setdefault(name, [])
        elif line:
            lines.append(line)
    return parts


def _changed(base: list[str], lines: list[str]) -> str:
    """Answers the text of a case: its lines taken out of the base and put into it."""
    changed: list[str] = []
    for number, text in enumerate([*base, ""], start=1):
        changed += [x.removeprefix(f"+{number} ") for x in lines if x.startswith(f"+{number} ")]
        taken_out = [x for x in lines if x.startswith(f"-{number} ")]
        if taken_out:
            assert taken_out == [f"-{number} {text}"]
        else:
            changed.append(text)
    return "\n".join(changed)


PARTS = _parts()
BASE = [line[2:] for line in PARTS.pop("base")]
ALL = [
    Case(name, _changed(BASE, lines), tuple(x for x in lines if re.match(r"[0-9]+: ", x)))
    for name, lines in PARTS.items()
]


def problems_of(directory: Path, content: bytes) -> tuple[str, ...]:
    """Answers the messages for an inventory with this content, without the file's name."""
    file = directory / "inventory.yaml"
    file.write_bytes(content)
    (directory / "upstream.conf.j2").write_text("upstream {}\n")
    with pytest.raises(InventoryWrong) as wrong:
        load_inventory(file)
    assert wrong.value.exit_code == 3
    assert wrong.value.site == "nothing was touched"
    return tuple(
        problem.removeprefix(f"{file}:").replace(str(directory), "DIR")
        for problem in wrong.value.problems
    )


def test_the_inventory_that_the_cases_change_is_sound(tmp_path: Path) -> None:
    file = tmp_path / "inventory.yaml"
    file.write_text("\n".join(BASE))
    (tmp_path / "upstream.conf.j2").write_text("")
    assert list(load_inventory(file).backends) == ["app1", "app2"]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name.replace(" ", "-"))
def test_a_wrong_inventory_is_refused_in_these_words(case: Case, tmp_path: Path) -> None:
    assert case.messages, "the case lists no message"
    assert problems_of(tmp_path, case.text.encode()) == case.messages


def test_no_message_shows_a_password() -> None:
    assert sum("hunter" in case.text for case in ALL) >= 6
    assert not [m for case in ALL for m in case.messages if "hunter" in m]


@pytest.mark.parametrize(
    "url",
    ["redis://:hunter2", "hunter2@localhost", "redis://:hun/ter2@host", "redis//:hunter2@host"],
)
def test_a_password_in_a_misspelt_url_is_not_shown(url: str, tmp_path: Path) -> None:
    text = "\n".join(BASE).replace("redis://localhost:6379/0", url)
    (message,) = problems_of(tmp_path, text.encode())
    assert "hunter2" not in message
    assert "ter2" not in message


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "\n".join(BASE)
    for right, wrong in (
        ("user: deploy", "user: deploy, prot: 22"),
        ("10.0.0.11}", "10.0.0.11, port: ssh}"),
        ("  - name: tomcat", "  - name: tomcat\n  - name: tomcat"),
        ("template: upstream.conf.j2", "template: nowhere.j2"),
        ("{path: /health}", "{path: /health, path: /, status: [2]}"),
        ("10.0.0.11:8081", "10.0.0.11:8080"),
        ("/srv/app2", "/srv/app1"),
        ("via: web1", "via: wbe1, latency_max_ms: quick"),
    ):
        assert right in text
        text = text.replace(right, wrong, 1)
    starts = [message.partition(": should")[0] for message in problems_of(tmp_path, text.encode())]
    assert starts == [
        "2: ssh.prot",
        "5: hosts.web1.port",
        "11: upstreams[tomcat].name",
        "12: template",
        "16: health.path",
        "16: health.status[0]",
        "21: backends[app1].address",
        "25: backends[app2].address",
        "26: backends[app2].upgrade.catalina_base",
        "27: session_store.latency_max_ms",
        "27: session_store.via",
    ]


ALIASES = b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1) if name > 97 else b"x"] * 9))
    for name in range(97, 104)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "1: should be a mapping that begins with `application: NAME`, is empty"),
        (b"# only\n", "1: should be a mapping that begins with `application: NAME`, is empty"),
        (b"- a\n", "1: should be a mapping that begins with `application: NAME`, is not a mapping"),
        (
            b"shop\n",
            "1: should be a mapping that begins with `application: NAME`, is not a mapping",
        ),
        (b"a: 1\nb: \xff\n", "2: should be UTF-8 text, is a byte that is not, 0xff"),
        (b"a: 1\nb: \x00\n", "2: should be text without control characters, is one with U+0000"),
        (b"[" * 700, "1: should be an inventory, is too large or too deeply nested to be one"),
        (
            b"a: " + b"[" * 60 + b"]" * 60,
            "1: should be an inventory, is too large or too deeply nested to be one",
        ),
        (ALIASES, "1: should be an inventory, is too large or too deeply nested to be one"),
    ],
)
def test_what_is_no_inventory_at_all_is_said_in_one_line(
    content: bytes, message: str, tmp_path: Path
) -> None:
    assert problems_of(tmp_path, content) == (message,)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InventoryWrong) as wrong:
        load_inventory(tmp_path / "nowhere.yaml")
    assert wrong.value.problems == (
        f"{tmp_path / 'nowhere.yaml'}:1: should be a file that can be read, is missing",
    )
    assert "-i FILE" in wrong.value.next_step


def test_a_directory_is_no_inventory(tmp_path: Path) -> None:
    with pytest.raises(InventoryWrong) as wrong:
        load_inventory(tmp_path)
    assert wrong.value.problems[0].endswith("is a directory")
