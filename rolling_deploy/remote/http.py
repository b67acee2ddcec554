"""The one door to httpx: one request over a fresh connection that somebody else opens.

A question has one deadline for everything (connecting, TLS, the answer), so a server that sends
a byte now and then cannot hold us. Nothing of the environment is used: no proxy, no netrc.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Self, cast

import httpcore

from rolling_deploy.remote.connection import CannotReach, ForwardingRefused
from rolling_deploy.remote.lean_import import left_out

with left_out("httpx._main"):  # its command line draws in rich and pygments
    import httpx

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from rolling_deploy.remote.opener import Opener

BODY_MAX_BYTES = 1_000_000
"""What is read of a body. A health page is a few hundred bytes; the rest is never waited for."""


class NoAnswer(Exception):
    """There was no usable HTTP answer; the text is the reason for a person."""


class NoWay(NoAnswer):
    """Nothing was asked: our own way to the machine that asks for us is broken, or forbidden."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request, a GET unless it says otherwise.

    Attributes:
        address: `host:port` as seen from where the connection is opened.
        host_header: empty means the address. With TLS it is also the name the certificate is
            checked against.
        timeout_ms: for everything together.
        form: sent as a body, as a browser sends a form; None sends none.
    """

    address: str
    path: str
    timeout_ms: int
    scheme: str = "http"
    host_header: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    form: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One answer.

    Attributes:
        headers: names in lower case; a repeated header's values are joined by commas.
        took_ms: from the standing TCP connection to the last byte that was read, so that the
            way to the machine the connection is opened from is counted once, not twice.
        is_cut: the body was longer than `BODY_MAX_BYTES`.
        set_cookies: each `Set-Cookie` as it came; joined by commas they could not be told apart.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_ms: int
    is_cut: bool = False
    set_cookies: tuple[str, ...] = ()


class HttpClient:
    """Asks over connections made by `opener`, each used once. Safe to use from several threads.

    Redirects are answers, not followed.
    """

    def __init__(
        self, opener: Opener, *, verify_tls: bool = True, keep_cookies: bool = False
    ) -> None:
        """Make a client.

        Args:
            opener: where connections come from.
            verify_tls: check the certificate against this machine's trust store.
            keep_cookies: send back what was set, as a browser would; otherwise every question
                comes from a stranger.
        """
        cookies = CookieJar() if keep_cookies else CookieJar(_NO_COOKIES)
        self._client = httpx.Client(
            transport=_Transport(opener, verify_tls=verify_tls),
            cookies=cookies,
            follow_redirects=False,
            trust_env=False,
        )

    def ask(self, question: Question) -> HttpAnswer:
        """Ask once.

        Raises:
            NoAnswer: no connection, no TLS, no answer in time, or not HTTP.
            NoWay: of these, when it was not even asked.
        """
        begun = _Begun()
        try:
            request = self._request(question, begun)
            response = self._client.send(request, stream=True)
            try:
                body, is_cut = _read(response)
            finally:
                response.close()
        except _WayBroken as error:
            raise NoWay(str(error)) from error
        except httpcore.TimeoutException as error:
            raise NoAnswer(_late(error, question.timeout_ms)) from error
        except _FAILURES as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        return HttpAnswer(
            response.status_code,
            dict(response.headers),
            body,
            begun.took_ms(),
            is_cut,
            tuple(response.headers.get_list("set-cookie")),
        )

    def close(self) -> None:
        """Close whatever is still open."""
        self._client.close()

    def __enter__(self) -> Self:
        """Answers the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close whatever is still open."""
        self.close()

    def _request(self, question: Question, begun: _Begun) -> httpx.Request:
        path = question.path if question.path.startswith("/") else f"/{question.path}"
        headers = {"connection": "close", "user-agent": "rolling-deploy", **question.headers}
        extensions: dict[str, Any] = {"trace": begun.trace}
        if question.host_header:
            headers["host"] = question.host_header
            extensions["sni_hostname"] = _name_of(question.host_header)
        return self._client.build_request(
            question.method,
            f"{question.scheme}://{question.address}{path}",
            headers=headers,
            data=None if question.form is None else dict(question.form),
            timeout=question.timeout_ms / 1000,
            extensions=extensions,
        )


class _WayBroken(httpcore.ConnectError):
    """The opener did not come as far as the one that is to be asked."""


_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpx.HTTPError,
    httpx.InvalidURL,
    OSError,
    ValueError,
)
"""ValueError: a header or address that cannot be sent at all."""

_NO_COOKIES = DefaultCookiePolicy(allowed_domains=[])


class _Begun:
    """When the TCP connection of one question stood."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def trace(self, event: str, _: object) -> None:
        if event == "connection.connect_tcp.complete":
            self._at = time.monotonic()

    def took_ms(self) -> int:
        return round((time.monotonic() - self._at) * 1000)


def _read(response: httpx.Response) -> tuple[bytes, bool]:
    """Answers the body, and whether it was cut at `BODY_MAX_BYTES`."""
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > BODY_MAX_BYTES:
            return bytes(body[:BODY_MAX_BYTES]), True
    return bytes(body), False


def _late(error: httpcore.TimeoutException, timeout_ms: int) -> str:
    if isinstance(error, httpcore.ConnectTimeout):
        return f"no connection within {timeout_ms} ms"
    return f"connected, but no whole answer within {timeout_ms} ms"


def _name_of(host_header: str) -> str:
    """Answers the host without its port (`[::1]:8443` is `::1`)."""
    return httpx.URL(f"https://{host_header}").host


@cache
def _tls_context(*, verify: bool) -> ssl.SSLContext:
    """Answers the TLS rules. Reading the trust store takes tens of milliseconds, so once."""
    # The machine's trust store, not a bundled one: companies put their own authority there.
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Transport(httpx.BaseTransport):
    """Carries httpx's requests over connections the opener makes, each used once."""

    def __init__(self, opener: Opener, *, verify_tls: bool) -> None:
        self._pool = httpcore.ConnectionPool(
            # An empty context, so that httpcore does not load one; `start_tls` has the real one.
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            max_keepalive_connections=0,
            retries=0,
            network_backend=_Backend(opener, verify_tls=verify_tls),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                url,
                headers=request.headers.raw,
                content=request.read(),
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(cast("Iterable[bytes]", answer.stream)),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """An answer's body as it arrives."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    def close(self) -> None:
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()


class _Backend(httpcore.NetworkBackend):
    """Makes httpcore's connections through an opener."""

    def __init__(self, opener: Opener, *, verify_tls: bool) -> None:
        self._opener = opener
        self._verify_tls = verify_tls

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        del local_address, socket_options
        allowed = 10.0 if timeout is None else timeout
        deadline = time.monotonic() + allowed
        try:
            stream = self._opener(host, port, timeout_ms=max(1, round(allowed * 1000)))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except CannotReach as error:
            raise _WayBroken(str(error)) from error
        except ForwardingRefused as error:
            kind = _WayBroken if error.is_prohibited else httpcore.ConnectError
            raise kind(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return _Stream(stream, deadline, verify_tls=self._verify_tls)


class _Stream(httpcore.NetworkStream):
    """A socket whose every operation ends at one deadline, whatever httpcore allows it."""

    def __init__(self, stream: socket.socket, deadline: float, *, verify_tls: bool) -> None:
        self._socket = stream
        self._deadline = deadline
        self._verify_tls = verify_tls

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        try:
            self._socket.settimeout(self._left())
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        del timeout, ssl_context
        context = _tls_context(verify=self._verify_tls)
        try:
            self._socket.settimeout(self._left())
            wrapped = context.wrap_socket(self._socket, server_hostname=server_hostname)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(str(error)) from error
        return _Stream(wrapped, self._deadline, verify_tls=self._verify_tls)

    def get_extra_info(self, info: str) -> Any:
        # httpcore asks for these two only: whether TLS agreed on a protocol, and whether an idle
        # connection has died, which cannot matter to a connection used once.
        if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket):
            return cast("Any", self._socket)
        return None

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left
