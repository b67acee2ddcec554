"""One configuration that lets nginx judge every rendering at once, and touches nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rolling_deploy.upstreams.endpoint import is_endpoint
from rolling_deploy.upstreams.grammar import Statement, Word, parse, walk

_TEMP_PATHS = {
    "client_body": "",
    "proxy": "--without-http_proxy_module",
    "fastcgi": "--without-http_fastcgi_module",
    "uwsgi": "--without-http_uwsgi_module",
    "scgi": "--without-http_scgi_module",
}
_VARIABLE = re.compile(r"\$\{?([A-Za-z0-9_]+)")
_UNIX_PATH_MAX = 100


def compiled_out(version_output: str) -> frozenset[str]:
    """Answers which of nginx's temporary paths do not exist in a binary, from its `nginx -V`."""
    options = set(version_output.split())
    return frozenset(name for name, option in _TEMP_PATHS.items() if option in options)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the load balancer's own nginx the renderings depend on.

    Attributes:
        load_modules: what the running configuration loads, by absolute path.
        user_directive: arguments of its `user` directive; without effect for an ordinary user.
        compiled_out: what the binary does not have (see `compiled_out`).
        variables: those the running configuration defines, for instance for `hash`.
        resolver: arguments of the `resolver` that holds for its `http` block; `server ... resolve`
            is refused without one, here as there.
    """

    load_modules: Sequence[str] = ()
    user_directive: str = ""
    compiled_out: frozenset[str] = frozenset()
    variables: Collection[str] = ()
    resolver: Sequence[str] = ()


def pretest_config(texts: Sequence[str], workdir: str, around: Surroundings) -> str:
    """Answers a stand-alone configuration for `nginx -t -c`, which an ordinary user can run.

    Upstreams, their zones and the generation endpoints get a name of their own per variant, and
    the endpoints listen on a socket in `workdir`. nginx creates its pid file, the socket and
    empty directories there; nowhere else.

    Args:
        texts: whole files, as `Renderings.text` gives them.
        workdir: an existing directory that is thrown away afterwards, absolute.
    """
    variants = [_variant(text, number, workdir) for number, text in enumerate(texts, 1)]
    used = {match[1] for text in texts for match in _VARIABLE.finditer(_without_comments(text))}
    lines = [
        *(f"load_module {_quoted(module)};" for module in around.load_modules),
        *([f"user {around.user_directive};"] if around.user_directive else []),
        "worker_processes 1;",
        f"pid {_quoted(workdir + '/nginx.pid')};",
        f"lock_file {_quoted(workdir + '/nginx.lock')};",
        f"error_log {_quoted(workdir + '/error.log')};",
        "events {}",
        "http {",
        "access_log off;",
        *([f"resolver {' '.join(map(_quoted, around.resolver))};"] if around.resolver else []),
        # The variants' names are longer than those that will be used.
        "server_names_hash_bucket_size 512;",
        "variables_hash_bucket_size 512;",
        *(
            f"{name}_temp_path {_quoted(f'{workdir}/{name}')};"
            for name in _TEMP_PATHS
            if name not in around.compiled_out
        ),
        *(f'map "" ${name} {{ default ""; }}' for name in sorted(used & set(around.variables))),
    ]
    return "\n".join([*lines, *variants, "}", ""])


def _variant(text: str, number: int, workdir: str) -> str:
    changes = sorted(_changes(text, number, workdir), key=lambda change: change[0].start)
    parts, cursor = [f"# variant {number}\n"], 0
    for word, replacement in changes:
        parts += [text[cursor : word.start], replacement]
        cursor = word.start + len(word.raw)
    return "".join([*parts, text[cursor:]])


def _changes(text: str, number: int, workdir: str) -> Iterator[tuple[Word, str]]:
    for statement in parse(text):
        if not isinstance(statement, Statement):
            continue
        if statement.name == "upstream":
            yield statement.words[1], f"{statement.words[1].text}_variant_{number}"
            for inner in walk(statement.block or ()):
                if inner.name == "zone" and len(inner.words) > 1:
                    yield inner.words[1], f"{inner.words[1].text}_variant_{number}"
        elif is_endpoint(statement):
            yield from _endpoint_changes(statement, number, workdir)


def _endpoint_changes(
    statement: Statement, number: int, workdir: str
) -> Iterator[tuple[Word, str]]:
    for inner in walk(statement.block or ()):
        if inner.name == "server_name":
            yield inner.words[1], f"v{number}.{inner.words[1].text}"
        # Where the path is too long for a socket the loopback port stays: nginx does not mind a
        # port in use while it only tests.
        if inner.name == "listen" and len(workdir) < _UNIX_PATH_MAX - len("/t.sock"):
            yield inner.words[1], _quoted(f"unix:{workdir}/t.sock")


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
