"""Which server the sentinels call the master, and whether they could choose another."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rolling_deploy.parallel import at_once
from rolling_deploy.remote.session_store_address import Server, shown
from rolling_deploy.remote.session_store_info import line
from rolling_deploy.remote.session_store_link import Dial, LinkLost, Login, Why, enter
from rolling_deploy.rollout.observed import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "sentinels"
ADDRESS_WORDS = 2
DOWN = frozenset({"o_down", "failover_in_progress"})
"""What the sentinels say of a master that they are about to replace, or have begun to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one sentinel says.

    Attributes:
        trouble: why it gives no master; empty when it does.
        no_quorum: why the sentinels could not choose another master now; empty when they could.
        flags: what it says of the master it names.
        unsaid: why we may not ask it for one of the two before; empty when we may.
    """

    sentinel: Server
    master: Server | None = None
    trouble: str = ""
    no_quorum: str = ""
    flags: frozenset[str] = frozenset()
    unsaid: str = ""


@dataclass(frozen=True, slots=True)
class Election:
    """What the sentinels say together: the line about it, and the master unless it is refused."""

    check: Check
    master: Server | None


def elect(dial: Dial, sentinels: Sequence[Server], name: str, login: Login) -> Election:
    """Ask all the sentinels at the same time for the master, and count their voices.

    Reads only. Takes as long as connecting and one command may.
    """
    asked = {sentinel: partial(_ask, dial, sentinel, name, login) for sentinel in sentinels}
    return judge(tuple(at_once(asked).values()), name)


def judge(answers: Sequence[Answer], name: str) -> Election:
    """Answers the master that more than half of the sentinels in the url name.

    Fewer are not believed: the minority in a divided network may still name the old one.
    """
    voices = Counter(answer.master for answer in answers if answer.master)
    silent = [f"{shown(a.sentinel)}: {a.trouble}" for a in answers if a.trouble]
    if not voices:
        return _refused(f"none names a master `{name}` ({'; '.join(silent)})")
    master, count = voices.most_common(1)[0]
    if len(voices) > 1:
        told = ", ".join(
            f"{shown(a.sentinel)} says {shown(a.master)}" for a in answers if a.master is not None
        )
        return _refused(f"they disagree who is master of `{name}`: {told}; a failover may be going")
    if count * 2 <= len(answers):
        few = f"only {count} of {len(answers)} name a master of `{name}`"
        return _refused(f"{few}, too few to be believed ({'; '.join(silent)})")
    at = f"{shown(master)} is master of `{name}`"
    flags = sorted(DOWN & frozenset().union(*(a.flags for a in answers)))
    if flags:
        return _refused(f"{at}, but they call it {', '.join(flags)}: a failover is under way")
    unable = [answer.no_quorum for answer in answers if answer.no_quorum]
    if len(unable) == count:
        return _refused(f"{at}, but they could choose no other should it die: {unable[0]}")
    detail = f"{count} of {len(answers)} say {at}"
    unsaid = [answer.unsaid for answer in answers if answer.unsaid]
    if unsaid:
        detail += f"; not checked: whether they could choose another or are about to ({unsaid[0]})"
    trouble = silent + unable
    if trouble:
        return Election(line(NAME, Verdict.WARNING, f"{detail}; {'; '.join(trouble)}"), master)
    return Election(line(NAME, Verdict.OK, detail), master)


def _refused(detail: str) -> Election:
    return Election(line(NAME, Verdict.REFUSED, detail), None)


def _ask(dial: Dial, sentinel: Server, name: str, login: Login) -> Answer:
    link = dial(*sentinel)
    try:
        enter(link, login)
        said, quorum, about = link.ask(
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name),
            ("SENTINEL", "CKQUORUM", name),
            ("SENTINEL", "MASTER", name),
        )
    except LinkLost as error:
        return Answer(sentinel, trouble=str(error))
    finally:
        link.close()
    if said.is_error:
        return Answer(sentinel, trouble=said.error)
    if not isinstance(said.value, list) or len(said.value) != ADDRESS_WORDS:
        return Answer(sentinel, trouble=f"it knows no master `{name}`")
    host, port = (_text(word) for word in said.value)
    return Answer(
        sentinel,
        (host, int(port)),
        no_quorum=quorum.error if "NOQUORUM" in quorum.error else "",
        flags=_flags(about.value),
        unsaid=next((one.error for one in (quorum, about) if one.why is Why.DENIED), ""),
    )


def _flags(said: object) -> frozenset[str]:
    words = [_text(word) for word in said] if isinstance(said, list) else []
    fields = dict(zip(words[::2], words[1::2], strict=False))
    return frozenset(fields.get("flags", "").split(","))


def _text(word: object) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)
