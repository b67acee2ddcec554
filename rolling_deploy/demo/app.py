"""The demo application: one process, standard library only, sessions in Redis.

It runs from a release folder: `VERSION` beside this file says which release it is, and `FLAW`,
where it exists, what is wrong with it (see `artifacts.FLAWS`). It must not import anything of
rolling_deploy: on its machine there is nothing but the archive.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SESSION_TTL_S = 1_800
REDIS_TIMEOUT_S = 2.0
STOP_LIMIT_S = 30.0
"""How long requests in flight may take after SIGTERM."""
HEAD_MAX_BYTES = 65_536
SLOW_MAX_MS = 60_000
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 411: "Length Required"}

RedisReply = bytes | int | str | list["RedisReply"] | None
Json = dict[str, str | int | None]


class RedisProblem(Exception):
    """Redis answered with an error, not in time, or not at all."""


class Redis:
    """One connection to Redis, opened when first needed and again after any trouble."""

    def __init__(self, address: str) -> None:
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.lock = asyncio.Lock()

    async def ask(self, *commands: tuple[str, ...]) -> list[RedisReply]:
        """Answers one reply for each command, sent together.

        Raises:
            RedisProblem: an error reply, a closed connection, or no answer in time.
        """
        async with self.lock:
            try:
                async with asyncio.timeout(REDIS_TIMEOUT_S):
                    if self.streams is None:
                        self.streams = await asyncio.open_connection(self.host, self.port)
                    reader, writer = self.streams
                    writer.write(b"".join(map(encode_command, commands)))
                    return [await read_reply(reader) for _ in commands]
            except (OSError, EOFError, TimeoutError, ValueError, RedisProblem) as problem:
                if self.streams is not None:
                    self.streams[1].close()
                self.streams = None
                raise RedisProblem(f"redis: {problem!r}") from problem


def encode_command(words: tuple[str, ...]) -> bytes:
    """Answers the command as Redis reads it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


async def read_reply(reader: asyncio.StreamReader) -> RedisReply:
    """Answers the next reply.

    Raises:
        RedisProblem: it is an error.
    """
    line = (await reader.readuntil(b"\r\n"))[:-2]
    kind, rest = line[:1], line[1:]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        raise RedisProblem(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"*":
        return [await read_reply(reader) for _ in range(int(rest))]
    if kind != b"$":
        raise ValueError("not a Redis reply")
    return None if int(rest) < 0 else (await reader.readexactly(int(rest) + 2))[:-2]


class Sessions:
    """The users' sessions, one Redis hash each."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self.redis = redis
        self.prefix = prefix

    async def login(self, user: str) -> str:
        """Make a session for the user; answers its id."""
        sid = secrets.token_hex(16)
        key = self.prefix + sid
        await self.redis.ask(
            ("HSET", key, "user", user, "counter", "0"), ("EXPIRE", key, str(SESSION_TTL_S))
        )
        return sid

    async def look(self, sid: str) -> Json:
        """Answers whose session it is and its counter; nobody's for an unknown one."""
        key = self.prefix + sid
        found, _ = await self.redis.ask(
            ("HMGET", key, "user", "counter"), ("EXPIRE", key, str(SESSION_TTL_S))
        )
        user, counter = found if isinstance(found, list) else (None, None)
        if not isinstance(user, bytes) or not isinstance(counter, bytes):
            return {"user": None, "counter": 0}
        return {"user": user.decode(), "counter": int(counter)}

    async def add(self, sid: str) -> Json:
        """Raise the counter by one; a session that does not exist is not made."""
        seen = await self.look(sid)
        if seen["user"] is None:
            return seen
        [counter] = await self.redis.ask(("HINCRBY", self.prefix + sid, "counter", "1"))
        return {"user": seen["user"], "counter": counter if isinstance(counter, int) else None}


@dataclass(frozen=True, slots=True)
class Request:
    """One request's head."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    keeps_alive: bool

    @property
    def length(self) -> int:
        """Answers how many bytes of body follow."""
        return int(self.headers.get("content-length", "0"))

    @property
    def session(self) -> str:
        """Answers the session id of the cookie, or nothing."""
        for part in self.headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == "SID":
                return value
        return ""


def parse_head(head: bytes) -> Request:
    """Answers the request that these header lines make.

    Raises:
        ValueError: they make none.
    """
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, protocol = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    url = urlsplit(target)
    connection = headers.get("connection", "").lower()
    keeps_alive = protocol == "HTTP/1.1" and connection != "close"
    return Request(method, url.path, parse_qs(url.query), headers, keeps_alive)


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, a JSON body, and more headers."""

    status: int
    body: Json
    headers: tuple[tuple[str, str], ...] = ()


class App:
    """The application: its routes, its connections, its end."""

    def __init__(self, *, name: str, version: str, flaw: str, redis: Redis) -> None:
        self.name = name
        self.version = "0.0-wrong" if flaw == "wrong-version" else version
        self.flaw = flaw
        self.redis = redis
        # The worst kind of release: every health check is fine, and every user is logged out.
        prefix = "shop:session2:" if flaw == "logout" else "shop:session:"
        self.sessions = Sessions(redis, prefix)
        self.idle: set[asyncio.StreamWriter] = set()
        self.connections: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it closes or the application stops."""
        task = asyncio.current_task()
        if task is not None:
            self.connections.add(task)
            task.add_done_callback(self.connections.discard)
        try:
            while not self.stopping.is_set():
                self.idle.add(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                self.idle.discard(writer)
                if not await self.answer(head, reader, writer):
                    break
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError):
            pass  # The peer went away or does not speak HTTP: nobody is left to tell.
        finally:
            self.idle.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def answer(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; answers whether the connection stays open."""
        request = parse_head(head)
        try:
            reply = await self.route(request, reader)
        except RedisProblem as problem:
            reply = Reply(503, {"error": str(problem)})
        keeps = request.keeps_alive and not self.stopping.is_set()
        body = json.dumps(reply.body).encode() + b"\n"
        lines = [
            f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Error')}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"X-Version: {self.version}",
            f"X-Backend: {self.name}",
            f"Connection: {'keep-alive' if keeps else 'close'}",
            *(f"{name}: {value}" for name, value in reply.headers),
        ]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        return keeps

    async def route(self, request: Request, reader: asyncio.StreamReader) -> Reply:
        """Answers what the request asks for, after reading its body."""
        if request.path == "/upload" and request.method in {"PUT", "POST"}:
            return await self.upload(request, reader)
        body = await reader.readexactly(request.length)
        if self.flaw == "never-healthy":
            await self.stopping.wait()
        if self.flaw in {"broken", "never-healthy"}:
            return Reply(500, {"error": f"this release is {self.flaw}"})
        if self.flaw == "read-only" and (request.method, request.path) == ("POST", "/cart"):
            return Reply(500, {"error": f"this release is {self.flaw}"})
        match request.method, request.path:
            case "GET", "/health":
                answer: Json = {"status": "up", "version": self.version, "pid": os.getpid()}
            case "POST", "/login":
                return await self.login(parse_qs(body.decode()).get("user", ["guest"])[0])
            case "GET", "/cart":
                answer = await self.sessions.look(request.session)
            case "POST", "/cart":
                answer = await self.sessions.add(request.session)
            case (("GET" | "POST"), "/slow"):
                slow_ms = min(int(request.query.get("ms", ["1000"])[0]), SLOW_MAX_MS)
                await asyncio.sleep(slow_ms / 1000)
                answer = {"slow_ms": slow_ms}
            case _:
                return Reply(404, {"error": f"no {request.method} {request.path} here"})
        return Reply(200, answer)

    async def login(self, user: str) -> Reply:
        """Answers the user's new session as a cookie."""
        sid = await self.sessions.login(user)
        cookie = ("Set-Cookie", f"SID={sid}; Path=/; HttpOnly")
        return Reply(200, {"user": user, "counter": 0}, (cookie,))

    async def upload(self, request: Request, reader: asyncio.StreamReader) -> Reply:
        """Answers length and digest of the body, read as slowly as it comes."""
        if "content-length" not in request.headers:
            return Reply(411, {"error": "an upload needs a length"})
        digest, left = hashlib.sha256(), request.length
        while left:
            data = await reader.read(min(left, 65_536))
            if not data:
                raise EOFError
            digest.update(data)
            left -= len(data)
        return Reply(200, {"length": request.length, "sha256": digest.hexdigest()})

    async def finish(self) -> None:
        """Close idle connections and wait for the busy ones, at most STOP_LIMIT_S."""
        self.stopping.set()
        for writer in tuple(self.idle):
            writer.close()
        if self.connections:
            await asyncio.wait(self.connections, timeout=STOP_LIMIT_S)


def note(events: str, event: str) -> None:
    """Append one line to the event log: what happened, when (ms), in which process."""
    if events:
        line = {"event": event, "at_ms": time.time_ns() // 1_000_000, "pid": os.getpid()}
        with Path(events).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")


def app_of(options: argparse.Namespace) -> App:
    """Answers the application as the release's files and the command line say."""
    version_file = Path(options.version_file)
    flaw_file = version_file.with_name("FLAW")
    return App(
        name=options.name,
        version=version_file.read_text(encoding="utf-8").strip(),
        flaw=flaw_file.read_text(encoding="utf-8").strip() if flaw_file.exists() else "",
        redis=Redis(options.redis),
    )


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT. The port is bound only after the start delay."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    note(options.events, "start")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), options.start_delay_ms / 1000)
        return
    app = app_of(options)
    server = await asyncio.start_server(
        app.serve, options.bind, options.port, limit=HEAD_MAX_BYTES, backlog=512
    )
    note(options.events, "ready")
    await stop.wait()
    note(options.events, "stopping")
    server.close()
    await app.finish()
    note(options.events, "stopped")


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="the demo application")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bind", default=os.environ.get("BIND", "127.0.0.1"))
    parser.add_argument("--redis", required=True, metavar="HOST:PORT")
    parser.add_argument("--version-file", default=str(Path(__file__).with_name("VERSION")))
    parser.add_argument("--name", default="app", help="what X-Backend says")
    parser.add_argument(
        "--start-delay-ms", type=int, default=int(os.environ.get("START_DELAY_MS", "500"))
    )
    parser.add_argument("--events", default="", help="file that gets a line at start and stop")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
