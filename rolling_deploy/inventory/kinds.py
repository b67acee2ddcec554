"""The kinds of values an inventory holds: what a person may write, in words, and the check."""

from __future__ import annotations

import ipaddress
import posixpath
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, ValidationError, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

SHOULD = "should_be"
"""The type of every error raised here; its message is what the value should have been."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of scalar: the words for it, and why a value is none of it.

    Attributes:
        words: completes "should be ...".
        objection: answers a hint why the value is refused, `NO` without a hint, empty if fine.
    """

    words: str
    objection: Callable[[Any], str]

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Answers pydantic's schema: the type's own check first, then this one."""
        return core_schema.no_info_wrap_validator_function(self._validated, handler(source))

    def _validated(self, value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            result = handler(value)
        except ValidationError:
            raise self._error("") from None
        if objection := self.objection(result):
            raise self._error(objection.strip())
        return result

    def _error(self, hint: str) -> PydanticCustomError:
        return PydanticCustomError(SHOULD, "{words}", {"words": self.words, "hint": hint})


NO = " "
"""Refused, and there is nothing to add to the words of the kind."""


def _like(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)
    return lambda text: "" if compiled.fullmatch(text) else NO


def _between(low: float, high: float) -> Callable[[float], str]:
    return lambda number: "" if low <= number <= high else NO


def whole(low: int, high: int) -> Kind:
    """Answers the kind of whole numbers within two bounds."""
    return Kind(f"a whole number from {low} to {high}", _between(low, high))


WEEK_S = 604_800
_MS_S = 0.001

NAME_WORDS = "letters, digits, `.`, `_` or `-`, beginning with a letter or digit"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
HOST_MAX, LABEL_MAX = 253, 63
"""Of a host name and of each part between its dots (RFC 1035)."""
NAME_MAX = 100
"""Names become file names, which most file systems bound at 255 bytes, with ours around them."""
_RELEASE_MARK = "{release}"
_SERVER = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?"
_URL = re.compile(
    rf"(?:rediss?://{_SERVER}(?:/[0-9]{{0,4}})?)"
    rf"|rediss?\+sentinel://(?:{_SERVER}(?:,{_SERVER})*)/[A-Za-z0-9_.-]+(?:/[0-9]{{0,4}})?"
    rf"|rediss?\+cluster://{_SERVER}(?:,{_SERVER})*/?"
)
_URL_PORT = re.compile(r":([0-9]{1,5})(?=[,/]|$)")


def _name_objection(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        return NO
    return f"longer than {NAME_MAX} characters" if len(text) > NAME_MAX else ""


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        is_dotted_number = re.fullmatch(r"[0-9.]+", text) is not None
        is_too_long = len(text) > HOST_MAX or any(len(p) > LABEL_MAX for p in text.split("."))
        is_name = _HOST.fullmatch(text) is not None and ".." not in text
        return is_name and not is_dotted_number and not is_too_long
    return True


def _host_objection(text: str) -> str:
    if _is_host(text):
        return ""
    host, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and _is_host(host):
        return "the port has a key of its own"
    return NO


def _address_objection(text: str) -> str:
    if text.startswith("unix:"):
        return "a unix socket can only be reached on the machine it is on"
    if "://" in text:
        return "without the scheme"
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        is_host = ":" in host and _is_host(host[1:-1])
    else:
        is_host = ":" not in host and _is_host(host)
    if not host and not port.isdecimal() and _is_host(port):
        return "the port is missing"
    is_port = re.fullmatch(r"[0-9]{1,5}", port) is not None and 1 <= int(port) <= PORT_MAX
    return "" if is_host and is_port else NO


PORT_MAX = 65_535


def _is_ip(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return NO
    return ""


def _remote_path_objection(text: str) -> str:
    if text.startswith("~"):
        return "`~` is not expanded on another machine"
    if not text.startswith("/"):
        return NO
    if ".." in text.split("/"):
        return "without `..`"
    return NO if posixpath.normpath(text).strip("/") == "" else ""


def _remote_file_objection(text: str) -> str:
    return "it ends like a directory" if text.endswith("/") else _remote_path_objection(text)


def _artifact(*suffixes: str) -> Callable[[str], str]:
    def objection(text: str) -> str:
        if "://" in text:
            return "download it first"
        if set(text.replace(_RELEASE_MARK, "")) & set("{}"):
            return "the only placeholder is `{release}`"
        return "" if text.endswith(suffixes) else NO

    return objection


def _jar_objection(text: str) -> str:
    name = PurePath(text).name
    return "" if name.endswith(".jar") and re.fullmatch(r"[A-Za-z0-9_][\w.+-]*", name) else NO


def _regex_objection(text: str) -> str:
    return _compile_problem(text)[0]


def _one_group_objection(text: str) -> str:
    problem, groups = _compile_problem(text)
    if problem or groups == 1:
        return problem
    return f"it has {groups} groups"


def _compile_problem(text: str) -> tuple[str, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "", re.compile(text).groups
    except re.error as error:
        return error.msg, 0
    except (OverflowError, RecursionError):
        return "it is too large", 0


def _directive_objection(text: str) -> str:
    if text.rstrip().endswith(";"):
        return "the semicolon is added"
    if set(text) & set("{};#"):
        return NO
    first = text.split(maxsplit=1)[0] if text.split() else ""
    if first == "server":
        return "servers belong under `backends`"
    return "" if re.fullmatch(r"[a-z][a-z0-9_]*", first) else NO


SERVER_KEYS = ("weight", "max_conns", "max_fails", "fail_timeout", "backup")
"""The parameters of a `server` line that have keys of their own, in the order they are written."""


def _parameter_objection(text: str) -> str:
    word = text.partition("=")[0]
    if word in SERVER_KEYS:
        return f"`{word}` has a key of its own"
    if word == "down":
        return "which backend is out is decided by the rollout, never by the inventory"
    return "" if re.fullmatch(r"[a-z_]+(=[^\s;{}#'\"\\]+)?", text) else NO


def _url_objection(text: str) -> str:
    if "@" in text:
        return "name the password's environment variable in `password_env`, the user in `username`"
    if "?" in text:
        return "without parameters: TLS is set by `tls_ca`, `tls_certificate` and `tls_key`"
    if _URL.fullmatch(text):
        ports = _URL_PORT.findall(text.partition("://")[2])
        return "" if all(1 <= int(port) <= PORT_MAX for port in ports) else NO
    if re.fullmatch(rf"rediss?\+sentinel://{_SERVER}(?:,{_SERVER})*/?", text):
        return "the name of the master is missing"
    if re.fullmatch(rf"rediss?\+cluster://{_SERVER}(?:,{_SERVER})*/[0-9]{{1,4}}", text):
        return "a cluster has no numbered databases"
    return "only one server without `+sentinel` or `+cluster`" if "," in text else NO


def _identifier_objection(text: str) -> str:
    return "" if text.isidentifier() and text.isascii() else NO


Text = Annotated[str, Kind("text", lambda text: "" if text.strip() else NO)]
Flag = Annotated[bool, Kind("`true` or `false`", lambda _: "")]
Name = Annotated[str, Kind(f"a name of {NAME_WORDS}", _name_objection)]
NameOrNone = Annotated[
    str | None,
    Kind(f"a name of {NAME_WORDS}, or `null`", lambda t: "" if t is None else _name_objection(t)),
]
Host = Annotated[str, Kind("a host name or an IP address", _host_objection)]
Address = Annotated[str, Kind("an address `host:port`", _address_objection)]
Ip = Annotated[str, Kind("an IP address", _is_ip)]
Port = Annotated[int, whole(1, PORT_MAX)]
Count = Annotated[int, whole(1, 100_000)]
CountOrNone = Annotated[int, whole(0, 100_000)]
Status = Annotated[int, whole(100, 599)]
Share = Annotated[float, Kind("a share above 0 and at most 1", lambda n: "" if 0 < n <= 1 else NO)]
Seconds = Annotated[
    float, Kind(f"a number of seconds from {_MS_S} to {WEEK_S}", _between(_MS_S, WEEK_S))
]
WholeSeconds = Annotated[int, Kind("a whole number of seconds from 1 to 3600", _between(1, 3600))]
LockSeconds = Annotated[int, Kind("a whole number of seconds from 5 to 3600", _between(5, 3600))]
"""The machines' files tell whole seconds only, so a beat must not be much shorter than one."""
Milliseconds = Annotated[
    int, Kind("a whole number of milliseconds from 1 to 600000", _between(1, 600_000))
]
User = Annotated[str, Kind("a user name", _like(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]*\$?"))]
LocalPath = Annotated[str, Kind("a path on this machine", lambda t: "" if t.strip() else NO)]
RemotePath = Annotated[
    str, Kind("an absolute path of a directory below `/`", _remote_path_objection)
]
RemoteFile = Annotated[str, Kind("an absolute path of a file", _remote_file_objection)]
Word = Annotated[str, Kind("a word of a command", lambda text: "" if text else NO)]
Directive = Annotated[
    str, Kind("an nginx directive of an upstream without its semicolon", _directive_objection)
]
Parameter = Annotated[
    str, Kind("one parameter of a `server` line, like `resolve` or `route=a`", _parameter_objection)
]
NginxTime = Annotated[
    int | str,
    Kind(
        "a time as nginx writes it, like `10s`",
        lambda t: "" if re.fullmatch(r"[0-9]{1,9}(ms|s|m|h|d)?", str(t)) else NO,
    ),
]
War = Annotated[str, Kind("a local path that ends in `.war`", _artifact(".war"))]
Jar = Annotated[str, Kind("a local path that ends in `.jar`", _jar_objection)]
Sha256 = Annotated[str, Kind("64 hexadecimal digits", _like(r"[0-9a-fA-F]{64}"))]
Archive = Annotated[
    str,
    Kind(
        "a local path that ends in `.tar.gz`, `.tar` or `.zip`",
        _artifact(".tar.gz", ".tar", ".zip"),
    ),
]
Context = Annotated[
    str,
    Kind(
        "a context as Tomcat names its WAR (`ROOT` for `/`, `a#b` for `/a/b`)",
        _like(r"[A-Za-z0-9_][A-Za-z0-9._~-]*(#[A-Za-z0-9._~-]+)*"),
    ),
]
Unit = Annotated[str, Kind("the name of a systemd unit", _like(r"[A-Za-z0-9_][A-Za-z0-9:_.\\@-]*"))]
UrlPath = Annotated[str, Kind("a path that begins with `/`", _like(r"/[^\s#]*"))]
HostHeader = Annotated[str, Kind("the value of a `Host` header", _like(r"[A-Za-z0-9._\[\]:-]+"))]
HeaderName = Annotated[str, Kind("the name of a header", _like(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"))]
HeaderValue = Annotated[str, Kind("text of printable ASCII characters", _like(r"[\x20-\x7e\t]*"))]
JsonPath = Annotated[
    str, Kind("a dotted path into a JSON body, like `build.version`", _like(r"[^.\s]+(\.[^.\s]+)*"))
]
FormatName = Annotated[str, Kind("the name of a `log_format`", _like(r"[A-Za-z0-9_.-]+"))]
Regex = Annotated[str, Kind("a regular expression", _regex_objection)]
SessionKey = Annotated[
    str, Kind("a key with `{id}` in it", lambda text: "" if text.count("{id}") == 1 else NO)
]
VersionPattern = Annotated[
    str, Kind("a regular expression with exactly one group", _one_group_objection)
]
RedisUrl = Annotated[
    str,
    Kind(
        "a URL `redis://host:port/db`, `redis+sentinel://host:port,host:port/master/db` or "
        "`redis+cluster://host:port,host:port`, or with `rediss`, without a password",
        _url_objection,
    ),
]
Environment = Annotated[
    str, Kind("the name of an environment variable", _like(r"[A-Za-z_][A-Za-z0-9_]*"))
]
Identifier = Annotated[
    str, Kind("a name that a template can use (letters, digits and `_`)", _identifier_objection)
]
