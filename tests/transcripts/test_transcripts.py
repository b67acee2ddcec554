"""The stories beside this file happen as they are written. `--rewrite` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transcripts.story import Story

STORIES = sorted(Path(__file__).parent.glob("*.txt"))
RULE = "----"


def retold(text: str) -> str:
    """Answers the story with what happens now under each block of commands."""
    story, blocks = Story(), []
    for block in text.rstrip("\n").split("\n\n"):
        commands = block.split("\n")
        if RULE in commands:
            commands = commands[: commands.index(RULE)]
        blocks.append("\n".join([*commands, RULE, *story.tell(commands)]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_happens_as_it_is_written(path: Path, request: pytest.FixtureRequest) -> None:
    expected = path.read_text(encoding="utf-8")
    actual = retold(expected)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(actual, encoding="utf-8")
        return
    assert expected == actual


def test_there_are_stories() -> None:
    assert len(STORIES) >= 8
