"""One canary session: making, reading and writing it on a node, as a browser would."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rolling_deploy.remote.cookies import take_in
from rolling_deploy.remote.health_answer import visible, without
from rolling_deploy.remote.http import HttpAnswer, HttpClient, NoAnswer, Question
from rolling_deploy.settings import CanaryRequest, CanarySettings

if TYPE_CHECKING:
    from rolling_deploy.remote.opener import Opener

MARKER, WRITTEN = "{marker}", "{written}"
SHOWN_MAX, SEARCHED_MAX = 100, 4096
UNSEEN = re.compile(r"<(style|script)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
"""What a page holds for the browser alone; an error page of Tomcat begins with half a screen."""
SERVED_MIN, SERVED_MAX = 200, 399
"""Redirects count: a login usually answers with one."""
PASSING = frozenset({408, 425, 429, 502, 503, 504})
"""What says of itself that it may pass: it came too slowly or too early, too much is asked, or
nobody is there to answer yet."""


class BadAnswer(Exception):
    """The node answered, or was not asked, in a way that asking again would not change.

    The text says what it was, with the answer.
    """


class NotSet(Exception):
    """A variable of `form_env` is not set here; that says nothing of any node."""


def unset(canary: CanarySettings) -> list[str]:
    """Answers the environment variables of `form_env` that are not set, or empty."""
    return [name for name in _variables(canary) if not os.environ.get(name)]


def _variables(canary: CanarySettings) -> list[str]:
    requests = [one for one in (canary.create, canary.read, canary.write) if one]
    return sorted({name for one in requests for name in one.form_env.values()})


@dataclass(frozen=True, slots=True)
class Node:
    """A backend as the canary asks it.

    Attributes:
        release: what it runs, for messages.
        address: `host:port` as seen from where the opener connects.
    """

    name: str
    release: str
    address: str
    opener: Opener
    scheme: str = "http"
    host_header: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    verify_tls: bool = True

    def __str__(self) -> str:
        return f"{self.name} ({self.release})" if self.release else self.name


@dataclass(slots=True)
class Session:
    """One session of ours. Its cookies are as good as a password: never printed.

    Attributes:
        marker: the word that its user or its contents have, and nobody else's.
        made_on: which backend made it, with its release.
    """

    marker: str
    cookies: dict[str, str]
    made_on: str

    def copy(self) -> Session:
        """Answers the same session, to be tried without changing this one."""
        return replace(self, cookies=dict(self.cookies))

    def __repr__(self) -> str:
        return f"Session(made_on={self.made_on!r})"


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, and whether it shows what it should.

    Attributes:
        said: the answer for a person, safe to print.
        is_served: the page was given, whatever it shows; otherwise an error was.
    """

    shows_it: bool
    said: str
    is_served: bool

    def __str__(self) -> str:
        return self.said


class Visitor:
    """Asks nodes as a browser would."""

    def __init__(self, canary: CanarySettings) -> None:
        """Prepare; nothing is asked yet."""
        self._canary = canary
        found = (os.environ.get(name, "") for name in _variables(canary))
        self._secrets = tuple(word for word in found if word)

    def stranger(self) -> Session:
        """Answers a session that nobody made."""
        return Session(secrets.token_hex(6), {}, "nobody")

    def make(self, node: Node) -> Session:
        """Answers a new session.

        Raises:
            NoAnswer: there was no HTTP answer, or one that may pass.
            BadAnswer: the node did not do it, or set no session cookie.
            NotSet: a password is missing.
        """
        session = replace(self.stranger(), made_on=str(node))
        answer = self._send(self._canary.create, session, node, {})
        self._must_serve(self._canary.create, answer, session, node)
        cookie = self._canary.cookie
        if cookie not in session.cookies:
            names = ", ".join(sorted(session.cookies)) or "none"
            raise BadAnswer(
                f"{node} set no cookie `{cookie}` on {self._canary.create.path} "
                f"(it set {names}): {self._shown(answer, session)}"
            )
        return session

    def read(self, session: Session, node: Node, written: str = "") -> Asked:
        """Answers whether the node shows the session as its own user's.

        Args:
            written: what was written last and has to be shown; empty for what it was made with.

        Raises:
            NoAnswer: there was no HTTP answer, or one that may pass.
            BadAnswer: it could not be asked.
            NotSet: a password is missing.
        """
        answer = self._send(self._canary.read, session, node, {WRITTEN: written})
        pattern = self._canary.written if written else self._canary.expect
        filled = _filled(pattern, {MARKER: session.marker, WRITTEN: written}, quoted=True)
        is_served = _is_served(self._canary.read, answer)
        if not is_served and answer.status in PASSING:
            self._must_serve(self._canary.read, answer, session, node)
        text = answer.body.decode("utf-8", "replace")
        shows_it = is_served and re.search(filled, text) is not None
        return Asked(shows_it, self._shown(answer, session), is_served)

    def write(self, session: Session, node: Node) -> str:
        """Write something new into the session; answers what.

        Raises:
            NoAnswer: there was no HTTP answer, or one that may pass.
            BadAnswer: the node did not do it, or showed it before it was written.
            NotSet: a password is missing.
        """
        request = self._canary.write
        assert request is not None  # noqa: S101 # narrows the type; callers ask first
        written = secrets.token_hex(6)
        before = self.read(session, node, written)
        if before.shows_it:
            raise BadAnswer(
                f"{node} shows what `written` asks for before it was written: {before}; "
                "the canary could not fail, make `written` say `{written}`"
            )
        answer = self._send(request, session, node, {WRITTEN: written})
        self._must_serve(request, answer, session, node)
        return written

    def _must_serve(
        self, request: CanaryRequest, answer: HttpAnswer, session: Session, node: Node
    ) -> None:
        if not _is_served(request, answer):
            kind = NoAnswer if answer.status in PASSING else BadAnswer
            raise kind(
                f"{node} answers {request.method} {request.path} with "
                f"{self._shown(answer, session)}"
            )

    def _send(
        self, request: CanaryRequest, session: Session, node: Node, words: Mapping[str, str]
    ) -> HttpAnswer:
        """Send one request with the session's cookies, and take in those that are set."""
        words = {MARKER: session.marker, **words}
        form = {name: _filled(value, words) for name, value in request.form.items()}
        for name, variable in request.form_env.items():
            form[name] = os.environ.get(variable, "")
            if not form[name]:
                raise NotSet(f"environment variable {variable} is not set")
        headers = dict(request.headers)
        if request.method != "GET" and self._canary.csrf.pattern:
            self._add_token(form, headers, session, node)
        has_body = request.method != "GET"
        question = self._question(_filled(request.path, words), session, node, headers)
        question = replace(question, method=request.method, form=form if has_body else None)
        return self._ask(question, session, node)

    def _add_token(
        self, form: dict[str, str], headers: dict[str, str], session: Session, node: Node
    ) -> None:
        """Carry over the token that the application hides in a page against forged requests."""
        csrf = self._canary.csrf
        path = csrf.path or self._canary.read.path
        answer = self._ask(self._question(path, session, node, {}), session, node)
        found = re.search(csrf.pattern, answer.body.decode("utf-8", "replace"))
        if found is None:
            kind = NoAnswer if answer.status in PASSING else BadAnswer
            raise kind(
                f"{node} shows no token (`csrf.pattern`) on {path}: {self._shown(answer, session)}"
            )
        if csrf.header:
            headers[csrf.header] = found[1]
        if csrf.field:
            form[csrf.field] = found[1]

    def _question(
        self, path: str, session: Session, node: Node, headers: Mapping[str, str]
    ) -> Question:
        every = {**node.headers, **headers}
        if session.cookies:
            every["cookie"] = "; ".join(f"{n}={v}" for n, v in session.cookies.items())
        timeout_ms = self._canary.timeout_ms
        return Question(node.address, path, timeout_ms, node.scheme, node.host_header, every)

    def _ask(self, question: Question, session: Session, node: Node) -> HttpAnswer:
        try:
            with HttpClient(node.opener, verify_tls=node.verify_tls) as client:
                answer = client.ask(question)
        except NoAnswer as error:
            why = visible(without(self._secrets, str(error)))
            raise NoAnswer(f"{node} does not answer {question.path}: {why}") from None
        for line in answer.set_cookies:
            take_in(session.cookies, line)
        return answer

    def _shown(self, answer: HttpAnswer, session: Session) -> str:
        """Answers an answer for a person; what opens the session is hidden."""
        hidden = (*self._secrets, *(v for v in session.cookies.values() if len(v) >= 6))
        location = answer.headers.get("location", "")
        to = f" to {visible(without(hidden, location), SHOWN_MAX)}" if location else ""
        page = answer.body[:SEARCHED_MAX].decode("utf-8", "replace")
        text = re.sub(r"<[^>]*>", " ", UNSEEN.sub(" ", page))
        body = visible(without(hidden, text), SHOWN_MAX)
        return f"{answer.status}{to} `{body}`" if body else f"{answer.status}{to}"


def _is_served(request: CanaryRequest, answer: HttpAnswer) -> bool:
    if request.status:
        return answer.status in request.status
    return SERVED_MIN <= answer.status <= SERVED_MAX


def _filled(text: str, words: Mapping[str, str], *, quoted: bool = False) -> str:
    for name, word in words.items():
        text = text.replace(name, re.escape(word) if quoted else word)
    return text
