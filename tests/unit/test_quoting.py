"""Every word of a remote command arrives as it was given, whatever is in it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rolling_deploy.remote.quoting import command_line, quote

SHELLS = [name for name in ("sh", "bash", "dash") if shutil.which(name)]

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(deadline=None, max_examples=60)
@given(st.lists(WORDS, max_size=6))
@example([""])
@example(["-n", "--", "-e"])
@example(["it's", 'a "b"', "$(id)", "`id`", "$HOME", "a\nb\n\n", "\\", "'\\''", "!", "~", "*"])
@example(["Ünï", "\U0001f600", "\u2028", "\x1b[0m", "\r\n", "\t", "#", "=", "a=b"])
def test_every_shell_reads_back_the_words_that_were_given(words: list[str]) -> None:
    line = command_line(["printf", "%s\\0", "first", *words])
    expected = b"".join(word.encode() + b"\0" for word in ["first", *words])
    for shell in SHELLS:
        ran = subprocess.run([shell, "-c", line.encode()], capture_output=True, check=True)
        assert ran.stdout == expected


def test_a_word_that_is_a_command_is_never_run() -> None:
    line = command_line(["echo", "$(kill -9 $$)", "; kill -9 $$", "| kill -9 $$", "\nkill -9 $$"])
    ran = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert ran.stdout == b"$(kill -9 $$) ; kill -9 $$ | kill -9 $$ \nkill -9 $$\n"


def test_an_empty_word_is_still_a_word() -> None:
    assert command_line(["a", "", "b"]) == "a '' b"


def test_bytes_that_are_no_text_survive() -> None:
    word = b"\xff\xfe".decode("utf-8", "surrogateescape")
    line = command_line(["printf", "%s", word]).encode("utf-8", "surrogateescape")
    assert subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout == b"\xff\xfe"


@pytest.mark.parametrize("word", ["\0", "a\0b"])
def test_a_nul_is_refused_because_no_command_line_can_carry_it(word: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote(word)
