"""What the docs say is what the program does."""

from __future__ import annotations

import re

import click
import pytest

from rolling_deploy import errors
from rolling_deploy.cli import OUTPUTS, cli
from tests.docs import ROOT, error_classes, with_exit_codes

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = README + "".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))
)


def test_the_table_of_exit_codes_in_the_readme_is_up_to_date() -> None:
    assert with_exit_codes(README) == README, "run `python -m tests.docs`"


def test_every_cause_has_an_exit_code_of_its_own_and_a_meaning() -> None:
    codes = [kind.exit_code for kind in error_classes()]
    assert codes == [1, 2, 3, 4, 5, 6, 7, 8, 9, 70, 128]
    assert all(kind.meaning for kind in error_classes())


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_in_the_docs(name: str) -> None:
    assert re.search(rf"rolling-deploy {name}\b|`{name}`", DOCS), f"`{name}` is nowhere in the docs"


def _options() -> list[tuple[str, str]]:
    return [
        (name, option)
        for name, command in sorted(cli.commands.items())
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    ]


@pytest.mark.parametrize(("command", "option"), _options())
def test_every_option_is_in_the_docs_and_has_help(command: str, option: str) -> None:
    assert option in DOCS, f"`{command} {option}` is nowhere in the docs"
    parameter = next(p for p in cli.commands[command].params if option in p.opts)
    assert isinstance(parameter, click.Option)
    assert parameter.help


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_kind_of_output_is_in_the_docs(output: str) -> None:
    assert f"`{output}`" in DOCS or f"--output {output}" in DOCS


def test_the_ci_page_names_every_exit_code() -> None:
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| ([0-9+N]+) \|", page, re.MULTILINE))
    wanted = {str(kind.exit_code) for kind in error_classes()} - {"1", "128"}
    assert rows == {"0", *wanted, "128+N"}
    assert str(errors.Degraded.exit_code) not in rows, "`status` is no step of a pipeline"


def test_every_file_that_a_doc_links_to_is_there() -> None:
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
