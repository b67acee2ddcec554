"""The load's own HTTP/1.1 client: bare enough to say which failure was whose.

A client library retries, pools and hides; here every request is sent once, and a connection that
broke is told apart by whether it was fresh or kept from an earlier request.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from urllib.parse import urlsplit

CONNECT_LIMIT_S = 5.0
HEAD_MAX_BYTES = 65_536


class Ending(StrEnum):
    """How one request ended; each request has exactly one."""

    OK = "ok"
    """An answer with status 2xx or 3xx that says what it should."""
    STATUS_5XX = "status 5xx"
    STATUS_OTHER = "other status"
    WRONG_ANSWER = "wrong answer"
    """Status 2xx, but not about what was sent."""
    BROKEN = "connection refused, reset or closed"
    """On a fresh connection, or in the middle of an answer."""
    REUSED_CLOSED = "kept connection closed"
    """A kept connection that was open when looked at, and was closed before any answer: what an
    nginx reload does to idle clients. A browser sends a GET again, but never a POST."""
    TIMED_OUT = "timed out"
    UNFINISHED = "unfinished"
    """Still under way when the load was stopped and had waited long enough."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. `body` is sent in these pieces with `pause_s` before each."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: tuple[bytes, ...] = ()
    pause_s: float = 0.0

    def head(self, host: str, *, keeps_alive: bool) -> bytes:
        """Answers the request's head as it goes over the wire."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.body or self.method in {"POST", "PUT"}:
            lines.append(f"Content-Length: {sum(map(len, self.body))}")
        lines.append(f"Connection: {'keep-alive' if keeps_alive else 'close'}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    async def pieces(self) -> AsyncIterator[bytes]:
        """Answers the body's pieces at their pace."""
        for piece in self.body:
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            yield piece


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """How one request ended, and the answer if there was one."""

    ending: Ending
    answer: Answer | None = None


class _Broken(Exception):
    """The connection ended too early; `has_begun` says whether an answer had begun."""

    def __init__(self, *, has_begun: bool) -> None:
        super().__init__()
        self.has_begun = has_begun


class Connection:
    """One TCP connection to a site."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.is_reused = False
        self.is_spent = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open a connection to the site.

        Raises:
            OSError: it cannot be opened.
            TimeoutError: not in time.
        """
        place = urlsplit(url)
        async with asyncio.timeout(CONNECT_LIMIT_S):
            return cls(
                *await asyncio.open_connection(
                    place.hostname, place.port or 80, limit=HEAD_MAX_BYTES
                )
            )

    def looks_open(self) -> bool:
        """Answers whether a kept connection has not been closed yet, as every real client looks.

        Anything to read on an idle connection is its end. Asked of the kernel, because the event
        loop may not have noticed yet.
        """
        if self.reader.at_eof() or self.writer.is_closing():
            return False
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close it without waiting."""
        self.writer.close()

    async def exchange(self, request: Request, host: str, *, keeps_alive: bool) -> Answer:
        """Send the request and answer what comes back.

        The answer is read while the body is still being sent: a server may answer early.

        Raises:
            _Broken: the connection ended before the whole answer was there.
            ValueError: what came is not HTTP.
        """
        sending = asyncio.ensure_future(self._send(request, host, keeps_alive=keeps_alive))
        try:
            return await self._receive(is_head=request.method == "HEAD")
        finally:
            # With a body half sent, nothing else can be sent here.
            self.is_spent = not sending.done()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, request: Request, host: str, *, keeps_alive: bool) -> None:
        self.writer.write(request.head(host, keeps_alive=keeps_alive))
        async for piece in request.pieces():
            self.writer.write(piece)
            await self.writer.drain()

    async def _receive(self, *, is_head: bool) -> Answer:
        has_begun = False
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            has_begun = True
            first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            headers = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            status = int(first.split(" ")[1])
            has_body = not is_head and status not in {204, 304}
            return Answer(status, headers, await self._body(headers) if has_body else b"")
        except asyncio.IncompleteReadError as problem:
            raise _Broken(has_begun=has_begun or bool(problem.partial)) from problem
        except OSError as problem:
            raise _Broken(has_begun=has_begun) from problem
        except (asyncio.LimitOverrunError, IndexError) as problem:
            raise ValueError("the answer is not HTTP") from problem

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                parts.append((await self.reader.readexactly(size + 2))[:-2])
            await self.reader.readuntil(b"\r\n")
            return b"".join(parts)
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()


class Client:
    """One user's connections: one kept for each site, or a fresh one for each request."""

    def __init__(self, *, keeps_alive: bool) -> None:
        self.keeps_alive = keeps_alive
        self.kept: dict[str, Connection] = {}

    async def send(self, url: str, request: Request, limit_s: float) -> Exchange:
        """Send one request once; answers how it ended. Never raises for what the network does."""
        connection = self._kept(url)
        try:
            async with asyncio.timeout(limit_s):
                if connection is None:
                    connection = await Connection.open(url)
                answer = await connection.exchange(
                    request, urlsplit(url).netloc, keeps_alive=self.keeps_alive
                )
        except TimeoutError:
            ending = Ending.TIMED_OUT
        except _Broken as broken:
            is_race = connection is not None and connection.is_reused and not broken.has_begun
            ending = Ending.REUSED_CLOSED if is_race else Ending.BROKEN
        except (OSError, ValueError):
            ending = Ending.BROKEN
        else:
            self._put_back(url, connection, answer)
            return Exchange(ending_of(answer.status), answer)
        if connection is not None:
            connection.close()
        return Exchange(ending)

    def close(self) -> None:
        """Close every kept connection."""
        for connection in self.kept.values():
            connection.close()
        self.kept.clear()

    def _kept(self, url: str) -> Connection | None:
        connection = self.kept.pop(url, None)
        if connection is None:
            return None
        if not connection.looks_open():
            connection.close()
            return None
        connection.is_reused = True
        return connection

    def _put_back(self, url: str, connection: Connection, answer: Answer) -> None:
        closes = answer.headers.get("connection", "").lower() == "close"
        if self.keeps_alive and not closes and not connection.is_spent:
            self.kept[url] = connection
        else:
            connection.close()


def ending_of(status: int) -> Ending:
    """Answers how a request with this status ended, as far as the status says."""
    if status >= 500:  # the server's side of HTTP
        return Ending.STATUS_5XX
    return Ending.STATUS_OTHER if status >= 400 else Ending.OK  # the client's side
