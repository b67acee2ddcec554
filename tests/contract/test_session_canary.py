"""The session canary against real HTTP nodes of two releases over one store of sessions."""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from rolling_deploy.remote.canary_seal import NotSealable, opened, seal
from rolling_deploy.remote.canary_session import Node, Session
from rolling_deploy.remote.opener import open_directly
from rolling_deploy.remote.session_canary import keep, prove
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.settings import CanaryRequest, CanarySettings, CsrfSettings

PASSWORD = "a long enough password"


@dataclass(frozen=True)
class Release:
    """How one release treats sessions.

    Attributes:
        cookie: name of its session cookie.
        form: of the sessions that it makes.
        reads: the forms that it reads; what it cannot read it forgets, as Redisson does.
        rewrites: writes its own form whenever it touches a session.
        lives_ms: lifetime that it gives a session.
        renews: at each touch, not only when it makes one.
        shows_all: answers everybody alike.
        has_token: wants a token with each POST.
    """

    cookie: str = "JSESSIONID"
    form: str = "1"
    reads: str = "1"
    rewrites: bool = False
    lives_ms: int = 1_800_000
    renews: bool = True
    shows_all: bool = False
    has_token: bool = False
    keeps_writes: bool = True
    login_status: int = 302
    write_status: int = 200
    sets_cookie: bool = True
    read_status: int = 200
    forgets: bool = False


@dataclass
class Store:
    """Redis, as far as sessions go."""

    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    lives_ms: dict[str, int] = field(default_factory=dict)

    def lifetime(self, session: Session) -> int | None:
        return self.lives_ms.get(session.cookies.get("JSESSIONID", ""), 0)


class Application(BaseHTTPRequestHandler):
    """One node; each gets a class of its own."""

    release: Release
    store: Store

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def session(self) -> tuple[str, dict[str, Any]]:
        if self.release.forgets:
            return "", {}
        cookies = SimpleCookie(self.headers.get("Cookie", ""))
        known = cookies.get(self.release.cookie)
        key = known.value if known else ""
        found = self.store.sessions.get(key)
        if found is None or found["form"] not in self.release.reads:
            return "", {}
        if self.release.rewrites:
            found["form"] = self.release.form
        if self.release.renews:
            self.store.lives_ms[key] = self.release.lives_ms
        return key, found

    def fields(self) -> dict[str, str]:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        return {name: values[0] for name, values in parse_qs(body).items()}

    def answer(self, status: int, body: str, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self) -> None:
        _, session = self.session()
        if self.release.read_status != 200:
            shown = f"sorry, {session.get('user', 'nobody')}"
            self.answer(self.release.read_status, shown)
            return
        token = f'<input name="_csrf" value="t-{session.get("user", "nobody")}">'
        who = session.get("user", "nobody")
        if self.release.shows_all:
            who = "canary"
        self.answer(200, f"{token}<p>user {who}, cart {session.get('cart', [])}</p>")

    def do_POST(self) -> None:
        fields, (key, session) = self.fields(), self.session()
        if self.release.has_token and fields.get("_csrf") != f"t-{session.get('user', 'nobody')}":
            self.answer(403, "forged")
        elif self.path == "/login" and self.release.login_status != 302:
            self.answer(self.release.login_status, "no database")
        elif self.path == "/login" and not self.release.sets_cookie:
            self.answer(200, "welcome", ("Set-Cookie", "theme=dark"))
        elif self.path == "/cart" and key and self.release.write_status != 200:
            self.answer(self.release.write_status, "no stock")
        elif self.path == "/login" and fields.get("password") == PASSWORD:
            key = secrets.token_hex(8)
            made = {"user": fields["user"], "cart": [], "form": self.release.form}
            self.store.sessions[key] = made
            self.store.lives_ms[key] = self.release.lives_ms
            cookie = ("Set-Cookie", f"{self.release.cookie}={key}; Path=/; HttpOnly; Secure")
            self.answer(302, "", cookie, ("Location", "/cart"))
        elif self.path == "/cart" and key:
            if self.release.keeps_writes:
                session["cart"].append(fields["item"])
            self.answer(200, json.dumps(session["cart"]))
        else:
            self.answer(403, "who are you")


@contextmanager
def node(name: str, release: Release, store: Store) -> Iterator[Node]:
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Node", (Application,), {"release": release, "store": store})
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield Node(name, release.form, f"127.0.0.1:{server.server_port}", open_directly)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


OLD = Release()
CANARY = CanarySettings(
    create=CanaryRequest(
        "/login", "POST", {"user": "canary-{marker}"}, {"password": "CANARY_PASSWORD"}
    ),
    read=CanaryRequest("/cart"),
    expect="user canary-{marker}",
    write=CanaryRequest("/cart", "POST", {"item": "book-{written}"}),
    written="book-{written}",
)

Prove = Callable[..., Result]


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_PASSWORD", PASSWORD)


@pytest.fixture
def store() -> Store:
    return Store()


def proved(store: Store, release: Release, canary: CanarySettings = CANARY) -> Result:
    """Prove a release against one node of the old one."""
    with node("app1", release, store) as here, node("app2", OLD, store) as there:
        return prove(canary, here, there, (), store.lifetime)


def test_a_compatible_release_passes_in_every_direction(store: Store) -> None:
    result = proved(store, replace(OLD, form="2", reads="12"))
    assert result.outcome is Outcome.FAILED, "its own sessions are not read by the old one"
    result = proved(store, OLD)
    assert result.outcome is Outcome.DONE, result.detail
    assert result.detail.split("; ") == [
        "lives 1800 s as before",
        "made on app2 and read on app1",
        "written on app1 and read on app2",
        "made on app1 and read on app2",
    ]


BROKEN = {
    "cannot read what was there": (
        Release(form="2", reads="2"),
        r"a session made on app2 \(1\) is not read on app1 \(2\): 200 `user nobody, .*` on app1",
    ),
    "rewrites on touch": (
        Release(form="2", reads="12", rewrites=True),
        r"a session made on app2 \(1\) is no longer read there once app1 \(2\) has touched it",
    ),
    "its own are not read by the others": (
        Release(form="2", reads="12"),
        r"a session made on app1 \(2\) is not read on app2 \(1\)",
    ),
    "another cookie": (
        Release(cookie="SID"),
        r"a session made on app2 \(1\) is not read on app1 \(1\)",
    ),
    "a shorter life": (
        Release(lives_ms=60_000),
        r"a session that app1 \(1\) has touched lives 60 s, should live about 1800 s as on app2",
    ),
    "a shorter life of its own": (
        Release(lives_ms=60_000, renews=False),
        r"a session made on app1 \(1\) lives 60 s, should live about 1800 s as on app2 \(1\)",
    ),
    "loses what is written": (
        Release(keeps_writes=False),
        r"what was written into a session on app1 \(1\) is not read there",
    ),
}


@pytest.mark.parametrize("flaw", list(BROKEN))
def test_each_direction_that_a_release_breaks_is_named_with_both_answers(
    store: Store, flaw: str
) -> None:
    release, said = BROKEN[flaw]
    result = proved(store, release)
    assert result.outcome is Outcome.FAILED, result.detail
    assert re.search(said, result.detail), result.detail


REFUSING = {
    "a login that fails": (Release(login_status=500), "POST /login with 500 `no database`"),
    "a login that is gone": (Release(login_status=404), "POST /login with 404 `no database`"),
    "a login without a session": (
        Release(sets_cookie=False),
        "set no cookie `JSESSIONID` on /login (it set theme): 200 `welcome`",
    ),
    "a cart that fails": (Release(write_status=500), "POST /cart with 500 `no stock`"),
}


@pytest.mark.parametrize("flaw", list(REFUSING))
def test_a_node_that_refuses_has_failed_and_its_answer_is_shown(store: Store, flaw: str) -> None:
    release, said = REFUSING[flaw]
    result = proved(store, release)
    assert result.outcome is Outcome.FAILED, result.detail
    assert said in result.detail
    assert "app1 (1)" in result.detail
    with node("app1", release, store) as one, node("app2", OLD, store) as two:
        another, _ = keep(CANARY, one, two, count=1)
        alone, _ = keep(CANARY, one, one, count=1)
    lets_in = "cart" in flaw
    assert another.outcome is (Outcome.DONE if lets_in else Outcome.UNKNOWN), another.detail
    assert alone.outcome is (Outcome.DONE if lets_in else Outcome.FAILED), alone.detail
    assert lets_in or said in another.detail


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_what_says_that_it_may_pass_is_asked_again(store: Store, status: int) -> None:
    result = proved(store, Release(login_status=status))
    assert result.outcome is Outcome.UNKNOWN
    assert f"POST /login with {status} `no database`" in result.detail


def test_a_release_that_lets_nobody_in_does_not_hold_up_the_way_back_from_it(store: Store) -> None:
    with node("app3", OLD, store) as one:
        _, kept = keep(CANARY, one, one, count=1)
    with node("app1", OLD, store) as here, node("app2", Release(login_status=500), store) as bad:
        result = prove(CANARY, here, bad, kept, store.lifetime, goes_back=True)
        assert result.outcome is Outcome.DONE, result.detail
        assert "1 session from before is read on app1 (1)" in result.detail
        assert "not checked: both directions (app2 (1) answers POST /login" in result.detail
        assert prove(CANARY, here, bad, kept, store.lifetime).outcome is Outcome.UNKNOWN
        # The one that we go back to has to let people in.
        result = prove(CANARY, bad, here, kept, store.lifetime, goes_back=True)
        assert result.outcome is Outcome.FAILED, result.detail


OF_NO_USE = {
    "answers 503 at the login": Release(login_status=503),
    "answers 503 at the page": Release(read_status=503),
    "loses its own sessions": Release(forgets=True),
}


@pytest.mark.parametrize("flaw", list(OF_NO_USE))
def test_a_node_of_no_use_is_a_gap_on_the_way_back_and_not_known_on_the_way_forward(
    store: Store, flaw: str
) -> None:
    with node("app3", OLD, store) as one:
        _, kept = keep(CANARY, one, one, count=1)
    with node("app1", OLD, store) as here, node("app2", OF_NO_USE[flaw], store) as ill:
        back = prove(CANARY, here, ill, kept, store.lifetime, goes_back=True)
        assert back.outcome is Outcome.DONE, back.detail
        assert "1 session from before is read on app1 (1)" in back.detail
        assert "not checked: both directions (" in back.detail
        assert "app2 (1)" in back.detail
        bare = prove(CANARY, here, ill, (), store.lifetime, goes_back=True)
        assert bare.outcome is Outcome.NOT_CHECKED, bare.detail
        assert "no node of the other release can be proved with" in bare.detail
        forward = prove(CANARY, here, ill, kept, store.lifetime)
        assert forward.outcome is Outcome.UNKNOWN, forward.detail
        # The one that we go back to is not excused.
        ours = prove(CANARY, ill, here, (), store.lifetime, goes_back=True)
        assert ours.outcome in (Outcome.FAILED, Outcome.UNKNOWN), ours.detail


@contextmanager
def dead_node(name: str) -> Iterator[Node]:
    """Nobody listens there; the port stays ours for as long."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Node(name, "2", f"127.0.0.1:{bound.getsockname()[1]}", open_directly)


def test_a_dead_node_does_not_hold_up_the_way_back_from_it(store: Store) -> None:
    with node("app1", OLD, store) as here, dead_node("app2") as dead:
        _, kept = keep(CANARY, here, here, count=2)
        back = prove(CANARY, here, dead, kept, store.lifetime, goes_back=True)
        assert back.outcome is Outcome.DONE, back.detail
        assert "not checked: both directions (app2 (2) does not answer" in back.detail
        assert prove(CANARY, here, dead, kept, store.lifetime).outcome is Outcome.UNKNOWN
        assert (
            prove(CANARY, dead, here, (), store.lifetime, goes_back=True).outcome is Outcome.UNKNOWN
        )
        # Of two sessions one has been lost meanwhile, and the dead one cannot be asked about it.
        store.sessions.pop(kept[0].cookies["JSESSIONID"])
        back = prove(CANARY, here, dead, kept, store.lifetime, goes_back=True)
        assert back.outcome is Outcome.DONE, back.detail
        assert "1 session from before is read on app1 (1)" in back.detail
        # What the store has dropped is no fault of the one that we go back to.
        store.sessions.clear()
        assert (
            prove(CANARY, here, dead, kept, store.lifetime, goes_back=True).outcome
            is Outcome.FAILED
        )
        store.lives_ms.clear()
        back = prove(CANARY, here, dead, kept, store.lifetime, goes_back=True)
        assert back.outcome is Outcome.NOT_CHECKED, back.detail
        assert "not in the store any more" in back.detail


def test_an_error_that_may_pass_is_no_session_that_is_not_read(store: Store) -> None:
    with node("app1", OLD, store) as one:
        _, kept = keep(CANARY, one, one, count=1)
    for status in (408, 425, 429, 502, 503, 504):
        busy = Release(read_status=status)
        with node("app1", busy, store) as here, node("app2", OLD, store) as there:
            result = prove(CANARY, here, there, kept, store.lifetime)
            assert result.outcome is Outcome.UNKNOWN, result.detail
            assert f"app1 (1) answers GET /cart with {status} `sorry, " in result.detail
    page = replace(CANARY.read, status=(503,))
    wanted = replace(CANARY, read=page, expect="sorry, canary-{marker}")
    with node("app1", Release(read_status=503), store) as here:
        assert prove(wanted, here, None, kept, store.lifetime).outcome is Outcome.DONE
    broken = Release(read_status=500)
    with node("app1", broken, store) as here, node("app2", OLD, store) as there:
        assert prove(CANARY, here, there, kept, store.lifetime).outcome is Outcome.FAILED


def test_one_ill_node_of_the_release_in_service_is_no_failure_while_another_can_be_asked(
    store: Store,
) -> None:
    for ill in (Release(login_status=500), Release(forgets=True), Release(read_status=500)):
        with node("app1", ill, store) as one, node("app2", OLD, store) as two:
            result, kept = keep(CANARY, one, two, count=1)
            assert result.outcome is Outcome.UNKNOWN, result.detail
            assert kept == ()
            assert keep(CANARY, one, one, count=1)[0].outcome is Outcome.FAILED
    with node("app1", OLD, store) as one, node("app2", Release(read_status=500), store) as two:
        result, _ = keep(CANARY, one, two, count=1)
    assert result.outcome is Outcome.UNKNOWN, result.detail
    assert "500 `sorry, canary-" in result.detail


@pytest.mark.parametrize("goes_back", [False, True])
@pytest.mark.parametrize("value", [None, ""])
def test_a_password_that_is_not_set_is_no_answer_of_a_node(
    store: Store, monkeypatch: pytest.MonkeyPatch, value: str | None, *, goes_back: bool
) -> None:
    monkeypatch.delenv("CANARY_PASSWORD")
    if value is not None:
        monkeypatch.setenv("CANARY_PASSWORD", value)
    with node("app1", OLD, store) as here, node("app2", OLD, store) as there:
        result = prove(CANARY, here, there, (), store.lifetime, goes_back=goes_back)
        kept, _ = keep(CANARY, here, there, count=1)
    assert (result.outcome, kept.outcome) == (Outcome.FAILED, Outcome.FAILED)
    assert result.detail == kept.detail == "environment variable CANARY_PASSWORD is not set"


def test_a_page_that_shows_it_to_everybody_proves_nothing(store: Store) -> None:
    canary = replace(CANARY, expect="user canary")
    result = proved(store, replace(OLD, shows_all=True), canary)
    assert result.outcome is Outcome.FAILED
    assert "without any session too" in result.detail


def test_what_is_found_before_it_was_written_proves_nothing(store: Store) -> None:
    result = proved(store, OLD, replace(CANARY, written="cart"))
    assert "before it was written" in result.detail
    assert result.outcome is Outcome.FAILED


def test_a_token_against_forged_requests_is_carried_over(store: Store) -> None:
    guarded = replace(OLD, has_token=True)
    without = proved(store, guarded)
    assert without.outcome is Outcome.FAILED
    assert "answers POST /cart with 403 `forged`" in without.detail
    csrf = CsrfSettings(pattern='name="_csrf" value="([^"]+)"', field="_csrf")
    result = proved(store, guarded, replace(CANARY, csrf=csrf))
    assert result.outcome is Outcome.DONE, result.detail


def test_sessions_kept_from_before_are_read_where_no_old_node_is_left(store: Store) -> None:
    with node("app1", OLD, store) as one, node("app2", OLD, store) as two:
        result, kept = keep(CANARY, one, two, count=2)
        assert result.outcome is Outcome.DONE, result.detail
        assert len(kept) == 2
    with node("app1", OLD, store) as last:
        result = prove(CANARY, last, None, kept, store.lifetime)
        assert (result.outcome, result.detail) == (
            Outcome.DONE,
            "2 sessions from before are read on app1 (1)",
        )
    with node("app1", Release(form="2", reads="2"), store) as last:
        result = prove(CANARY, last, None, kept, store.lifetime)
        assert result.outcome is Outcome.FAILED
        assert "made on app1 (1) before the rollout is not read on app1 (2)" in result.detail


def test_kept_sessions_that_have_expired_are_no_fault_where_no_old_node_is_left(
    store: Store,
) -> None:
    with node("app1", OLD, store) as one, node("app2", OLD, store) as two:
        _, kept = keep(CANARY, one, two, count=1)
    store.sessions.clear()
    with node("app1", OLD, store) as last:
        result = prove(CANARY, last, None, kept, store.lifetime)
        assert result.outcome is Outcome.FAILED, "the store still has it, so it should be read"
        store.lives_ms.clear()
        result = prove(CANARY, last, None, kept, store.lifetime)
    assert result.outcome is Outcome.NOT_CHECKED
    assert "not in the store any more" in result.detail


def test_a_kept_session_that_the_release_has_dropped_does_not_hold_up_the_way_back(
    store: Store,
) -> None:
    with node("app1", OLD, store) as one, node("app2", OLD, store) as two:
        _, kept = keep(CANARY, one, two, count=2)
    store.sessions.pop(kept[0].cookies["JSESSIONID"])
    with node("app1", OLD, store) as back:
        assert prove(CANARY, back, None, kept, store.lifetime).outcome is Outcome.FAILED
        result = prove(CANARY, back, None, kept, store.lifetime, goes_back=True)
        assert result.outcome is Outcome.DONE, result.detail
        assert "1 session from before is read on app1 (1); not checked: " in result.detail
        store.sessions.clear()
        result = prove(CANARY, back, None, kept, store.lifetime, goes_back=True)
        assert result.outcome is Outcome.FAILED


def test_going_back_to_a_release_whose_sessions_live_less_long_is_no_fault(store: Store) -> None:
    longer = replace(OLD, lives_ms=7_200_000)
    with node("app1", OLD, store) as here, node("app2", longer, store) as there:
        result = prove(CANARY, here, there, (), store.lifetime)
        assert result.outcome is Outcome.FAILED
        result = prove(CANARY, here, there, (), store.lifetime, goes_back=True)
        assert result.outcome is Outcome.DONE, result.detail
        assert "lives" not in result.detail


def test_a_kept_session_that_is_not_read_is_told_with_both_answers(store: Store) -> None:
    with node("app1", OLD, store) as one, node("app2", OLD, store) as two:
        _, kept = keep(CANARY, one, two, count=1)
        with node("app1", Release(form="2", reads="2"), store) as new:
            result = prove(CANARY, new, two, kept, store.lifetime)
    assert result.outcome is Outcome.FAILED
    said = r"is not read on app1 \(2\): 200 `user nobody, .*` on app1, 200 `user canary.*` on app2"
    assert re.search(said, result.detail), result.detail


def test_a_kept_session_that_is_gone_for_everybody_is_no_fault_of_the_release(
    store: Store,
) -> None:
    with node("app1", OLD, store) as one, node("app2", OLD, store) as two:
        _, kept = keep(CANARY, one, two, count=1)
        store.sessions.clear()
        result = prove(CANARY, one, two, kept, store.lifetime)
        assert result.outcome is Outcome.DONE, result.detail
        assert "a session from before is gone on app2 too" in result.detail


def test_old_nodes_that_share_no_sessions_are_found_out_before_anything_is_begun(
    store: Store,
) -> None:
    with node("app1", OLD, store) as one, node("app2", OLD, Store()) as two:
        result, kept = keep(CANARY, one, two, count=1)
    assert result.outcome is Outcome.FAILED
    assert "is not read on app2 (1), of the same release" in result.detail
    assert kept == ()


def test_without_anybody_to_prove_it_with_it_is_not_checked(store: Store) -> None:
    with node("app1", OLD, store) as here:
        result = prove(CANARY, here, None, (), store.lifetime)
    assert result.outcome is Outcome.NOT_CHECKED


def test_a_node_that_does_not_answer_is_not_known_and_no_secret_is_told(store: Store) -> None:
    silent = Node("app1", "2", "127.0.0.1:9", open_directly)
    with node("app2", OLD, store) as there:
        result = prove(CANARY, silent, there, (), store.lifetime)
    assert result.outcome is Outcome.UNKNOWN
    assert "app1 (2) does not answer" in result.detail
    assert PASSWORD not in result.detail


def test_no_answer_shows_a_cookie_or_a_password(store: Store) -> None:
    with node("app1", OLD, store) as one, node("app2", Release(reads="2"), store) as two:
        result, _ = keep(CANARY, one, two, count=1)
    assert store.sessions
    for secret in (*store.sessions, PASSWORD):
        assert secret not in result.detail


def test_sealed_sessions_are_opened_with_the_same_password_only(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node("app1", OLD, store) as one, node("app2", OLD, store) as two:
        _, kept = keep(CANARY, one, two, count=2)
    sealed = seal(kept, CANARY, "r-1")
    assert opened(sealed, CANARY, "r-1") == kept
    assert not any(cookie in sealed for one in kept for cookie in one.cookies.values())
    with pytest.raises(NotSealable):
        opened(sealed, CANARY, "r-2")
    monkeypatch.setenv("CANARY_PASSWORD", "another")
    with pytest.raises(NotSealable, match="another password"):
        opened(sealed, CANARY, "r-1")
    bare = replace(CANARY, create=replace(CANARY.create, form_env={}))
    with pytest.raises(NotSealable, match="no `form_env`"):
        seal(kept, bare, "r-1")
