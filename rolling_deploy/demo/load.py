"""The users of a demo fleet: sessions, slow requests and slow uploads, and what becomes of them.

Nothing is ever sent twice, and every request is counted exactly once, so a failure that a
browser would hide is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from rolling_deploy.demo.load_http import Client, Ending, Exchange, Request
from rolling_deploy.demo.tally import Summary, Tally

REQUEST_LIMIT_S = 30.0
FINISH_SLACK_S = 5.0


@dataclass(frozen=True, slots=True)
class LoadShape:
    """How many clients of which kind, and how they behave.

    Attributes:
        fast: clients with a session that read and change their cart in turn.
        slow: clients whose every second request is a POST, and each takes `slow_ms`.
        uploads: clients that send a body of `upload_bytes` over `upload_s`.
        keep_alive: keep one connection to each load balancer, or take a fresh one each time.
        think_ms: pause of a fast client between two requests, on average.
        limit_s: the load ends by itself after so long.
    """

    fast: int = 12
    slow: int = 4
    uploads: int = 2
    keep_alive: bool = False
    think_ms: int = 50
    slow_ms: tuple[int, int] = (1_500, 2_500)
    upload_s: float = 6.0
    upload_bytes: int = 200_000
    upload_pieces: int = 30
    limit_s: float = 900.0


class Load:
    """Clients of a site, in a thread of their own with its own event loop."""

    def __init__(
        self,
        urls: Sequence[str],
        shape: LoadShape = LoadShape(),
    ) -> None:
        """Choose the clients; none runs yet.

        Args:
            urls: the site's load balancers; each client takes them in turn.
        """
        self._urls = tuple(urls)
        self._shape = shape
        self._tally = Tally()
        self._thread = threading.Thread(target=self._run, name="demo load", daemon=True)
        self._is_up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._problem: BaseException | None = None

    def start(self) -> None:
        """Let the clients begin; returns at once."""
        self._thread.start()
        self._is_up.wait()

    def snapshot(self) -> Summary:
        """Answers what was seen so far."""
        return self._tally.summary()

    def stop(self) -> Summary:
        """Let every client finish its request, and answer what was seen in all.

        Takes as long as the longest request; what is not answered by then is counted as
        unfinished.

        Raises:
            RuntimeError: a client ended by a mistake of its own; its counts cannot be trusted.
        """
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # It has ended by itself in this moment.
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        if self._problem is not None:
            raise RuntimeError("a client of the load failed") from self._problem
        return self.snapshot()

    def _run(self) -> None:
        try:
            asyncio.run(self._clients())
        except BaseException as problem:  # noqa: BLE001 # carried to the thread that stops us
            self._problem = problem
        finally:
            self._tally.end()
            self._is_up.set()

    async def _clients(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_up.set()
        shape = self._shape
        clients: list[Coroutine[Any, Any, None]] = [
            *(self._shopper(index) for index in range(shape.fast)),
            *(self._patient(index) for index in range(shape.slow)),
            *(self._uploader(index) for index in range(shape.uploads)),
        ]
        tasks = [asyncio.ensure_future(client) for client in clients]
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait(
            [stopping, *tasks], timeout=shape.limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        self._stop.set()
        await stopping
        longest_s = max(shape.upload_s, shape.slow_ms[1] / 1000) + FINISH_SLACK_S
        _, late = await asyncio.wait(tasks, timeout=longest_s)
        for task in late:
            task.cancel()
        endings = await asyncio.gather(*tasks, return_exceptions=True)
        for ending in endings:
            if isinstance(ending, Exception):
                raise ending

    async def _shopper(self, index: int) -> None:
        user = Shopper(f"user{index}", self._tally)
        client, turn = self._client(), self._turn(index)
        await self._pause(self._shape.think_ms * random.random())  # noqa: S311 # a spread
        while not self._stop.is_set():
            user.understand(await self._send(client, next(turn), user.next_request(), "cart"))
            await self._pause(self._shape.think_ms * random.uniform(0.5, 1.5))  # noqa: S311
        client.close()

    async def _patient(self, index: int) -> None:
        client, turn = self._client(), self._turn(index)
        for method in itertools.cycle(("GET", "POST") if index % 2 else ("POST", "GET")):
            if self._stop.is_set():
                break
            slow_ms = random.randint(*self._shape.slow_ms)  # noqa: S311
            request = Request(method, f"/slow?ms={slow_ms}", {})
            await self._send(client, next(turn), request, "slow")
            await self._pause(10)
        client.close()

    async def _uploader(self, index: int) -> None:
        client, turn, shape = self._client(), self._turn(index), self._shape
        while not self._stop.is_set():
            data = os.urandom(shape.upload_bytes)
            size = max(1, len(data) // shape.upload_pieces)
            pieces = tuple(data[at : at + size] for at in range(0, len(data), size))
            request = Request("POST", "/upload", {}, pieces, shape.upload_s / len(pieces))
            await self._send(client, next(turn), request, "upload", checks=data)
            await self._pause(10)
        client.close()

    def _client(self) -> Client:
        return Client(keeps_alive=self._shape.keep_alive)

    def _turn(self, index: int) -> Iterator[str]:
        first = index % len(self._urls)
        return itertools.cycle(self._urls[first:] + self._urls[:first])

    async def _pause(self, pause_ms: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), pause_ms / 1000)
        except TimeoutError:
            return

    async def _send(
        self, client: Client, url: str, request: Request, kind: str, *, checks: bytes = b""
    ) -> Exchange:
        """Send one request and count how it ended; a cancelled one as unfinished."""
        sending_s = request.pause_s * len(request.body)
        began = time.monotonic()
        exchange = Exchange(Ending.UNFINISHED)
        try:
            exchange = await client.send(url, request, REQUEST_LIMIT_S + sending_s)
            if exchange.ending is Ending.OK and not is_right(exchange, checks):
                exchange = Exchange(Ending.WRONG_ANSWER, exchange.answer)
        finally:
            took_ms = (time.monotonic() - began) * 1000
            self._tally.request(kind, f"{request.method} {request.path}", exchange, took_ms)
        return exchange


def body_of(exchange: Exchange) -> dict[str, Any] | None:
    """Answers the JSON object that came back, None for anything else."""
    try:
        body = json.loads(exchange.answer.body) if exchange.answer else None
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def is_right(exchange: Exchange, uploaded: bytes) -> bool:
    """Answers whether the answer is about what was sent."""
    body = body_of(exchange)
    if body is None:
        return False
    return not uploaded or body.get("sha256") == hashlib.sha256(uploaded).hexdigest()


class Shopper:
    """One user with a session: what was promised, and what the site says now.

    The counter may be anything between what was acknowledged and what was sent, for of a write
    that got no answer nobody knows whether it happened.
    """

    def __init__(self, name: str, tally: Tally) -> None:
        self.name = name
        self.tally = tally
        self.session = ""
        self.acknowledged = 0
        self.possible = 0
        self.asks = itertools.cycle(("GET", "POST"))
        self.method = ""

    def next_request(self) -> Request:
        """Answers what this user does next: log in once, then read and write in turn."""
        if not self.session:
            self.method = "login"
            form = urlencode({"user": self.name}).encode()
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            return Request("POST", "/login", kind, (form,))
        self.method = next(self.asks)
        if self.method == "POST":
            self.possible += 1
        return Request(self.method, "/cart", {"Cookie": f"SID={self.session}"})

    def understand(self, exchange: Exchange) -> None:
        """Compare the answer with what this user knows, and count what was lost."""
        body = body_of(exchange)
        if exchange.ending is not Ending.OK or body is None or exchange.answer is None:
            return
        if self.method == "login":
            cookie = exchange.answer.headers.get("set-cookie", "")
            self.session = cookie.partition("SID=")[2].partition(";")[0]
            self.acknowledged = self.possible = 0
            self.tally.session("followed")
            return
        where = exchange.answer.headers.get("x-backend", "")
        if body.get("user") != self.name:
            self.session = ""
            self.tally.session("lost", f"the session of {self.name} is lost at {where}")
            return
        counter = int(body.get("counter") or 0)
        if self.method == "POST":
            self.acknowledged += 1
        if counter < self.acknowledged:
            self.tally.session("write lost", f"a write of {self.name} is lost at {where}")
        elif counter > self.possible:
            self.tally.session("write repeated", f"{self.name} wrote once, twice at {where}")
        self.acknowledged = self.possible = counter
