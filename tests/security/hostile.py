"""Values that would do harm if anything read them as more than text."""

from __future__ import annotations

from hypothesis import strategies as st

MARK = "PWNED"
"""The file that appears wherever a value was run as a command."""

WORDS = (
    f"$(touch {MARK})",
    f"`touch {MARK}`",
    f"; touch {MARK} #",
    f"'; touch {MARK}; '",
    f'"; touch {MARK}; "',
    f"| touch {MARK}",
    f"& touch {MARK} &",
    f"> {MARK}",
    f"x\ntouch {MARK}\n",
    f"x\rtouch {MARK}\r",
    f"${{IFS}}touch${{IFS}}{MARK}",
    "-rf",
    "--help",
    "*",
    "~",
    "~root",
    "[a-z]*?",
    "{a,b}",
    "!!",
    "\\",
    "a\\tb\\n",
    "a  b ",
    " ",
    "",
    "#",
    "%s%n",
    "=",
    "end=done",
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b31m",
    "\u202eevil\u2066",
    "é\u4e16\U0001f600",
    "\udcff\udcfe",
    "x" * 50_000,
)
"""One of each sort; a lone surrogate stands for a byte that is no UTF-8."""

SHOWN_HARM = (
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil\x1b\\link",
    "\x9b31m",
    "a\rb",
    "a\nb",
    "\u202eevil",
    "\u2066evil",
    "\u2028",
    "\x00",
    "\udcff",
    "\x7f",
    "::error::hacked",
    "  ::set-output name=a::b",
    "::stop-commands::abc",
    "##[add-mask]a",
    "x ##[error]hacked",
    "section_start:1:wave\r\x1b[0Khidden",
    "\x1b[0Ksection_end:1:wave\r\x1b[0K",
    "[bold red]markup[/bold red] [link=http://evil]x[/link]",
)

ANY = st.one_of(
    st.sampled_from(SHOWN_HARM),
    st.sampled_from(WORDS[:-1]),
    st.text(st.characters(codec=None, categories=None), max_size=40),
    st.text("::##[]%\n\r\x1b ab", max_size=20),
)
"""Any text that Python can hold, and mostly what harms."""

WORD = st.one_of(
    st.sampled_from(WORDS),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=60),
    st.binary(max_size=60).map(lambda b: b.replace(b"\0", b"").decode("utf-8", "surrogateescape")),
)
"""Any word that a command line can carry: no NUL, and bytes that are no UTF-8 as surrogates."""
