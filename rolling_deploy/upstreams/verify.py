"""Judging what a template has rendered, by reading it as nginx would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from rolling_deploy.errors import TemplateWrong
from rolling_deploy.upstreams.addresses import canonical
from rolling_deploy.upstreams.layout import Layout, ServerLine, UpstreamLayout, key_of
from rolling_deploy.upstreams.reading import FileNotUnderstood, NotOnlyUpstreams, read_layout

_OURS = ("# rolling-deploy stamp ", "# rolling-deploy end of stamp")


def verify(
    text: str,
    wanted: Layout,
    template_name: str,
    load_balancer: str,
    gone: Collection[str] = (),
) -> None:
    """Check that a rendered text says exactly the wanted upstreams and servers.

    Comments and directives other than `server` are the template's own affair.

    Args:
        text: the template's output, without stamp and endpoint.
        gone: every address of the backends that are taken out. None of them may have a live
            line in any upstream, whoever the layout says that the line belongs to.

    Raises:
        TemplateWrong: with every difference found.
    """
    problems = _problems(text, wanted, frozenset(map(canonical, gone)))
    if problems:
        raise TemplateWrong(
            "the template does not render the upstreams that are wanted",
            problems=[f"{template_name}: for {load_balancer}: {problem}" for problem in problems],
            where=template_name,
            next_step="compare your template with the one that comes with rolling-deploy",
        )


# Load balancers that are alike have the same renderings, and a plan shows what it has checked.
@lru_cache(maxsize=1024)
def _problems(text: str, wanted: Layout, gone: frozenset[str]) -> tuple[str, ...]:
    return tuple(_found(text, wanted, gone))


def _found(text: str, wanted: Layout, gone: Collection[str]) -> list[str]:
    if any(line.startswith(_OURS) for line in text.split("\n")):
        return ["it renders a stamp of its own"]
    try:
        rendered = read_layout(text, "rendered", as_it_is=True)
    except NotOnlyUpstreams as error:
        return [f"it renders more than upstream blocks: {', '.join(map(str, error.others))}"]
    except FileNotUnderstood as error:
        number = error.where.rpartition(":")[2]
        line = (
            f", which is: {text.split(chr(10))[int(number) - 1].strip()}"
            if number.isdecimal()
            else ""
        )
        return [f"what it renders cannot be read: {error.what}{line}"]
    if ".rolling-deploy.internal" in text:
        return ["it renders a generation endpoint of its own"]
    return [*_block_problems(rendered, wanted), *_still_sent(rendered, gone)]


def _still_sent(rendered: Layout, gone: Collection[str]) -> Iterable[str]:
    for upstream in rendered.upstreams:
        for line in upstream.servers:
            if not line.is_down and canonical(line.address) in gone:
                where = f"upstream `{upstream.name}`: server {line.address}"
                yield f"{where} is live, belongs to a backend that is taken out"


def _block_problems(rendered: Layout, wanted: Layout) -> list[str]:
    blocks = {upstream.name: upstream for upstream in rendered.upstreams}
    names = {upstream.name for upstream in wanted.upstreams}
    problems = [
        f"there is an upstream `{name}` that nobody asked for"
        for name in blocks
        if name not in names
    ]
    for upstream in wanted.upstreams:
        block = blocks.get(upstream.name)
        if block is None:
            problems.append(f"the upstream `{upstream.name}` is missing")
        else:
            problems += [
                f"upstream `{upstream.name}`: {p}" for p in _line_problems(block, upstream)
            ]
    return problems


def _line_problems(rendered: UpstreamLayout, wanted: UpstreamLayout) -> list[str]:
    there, asked = _facts(rendered.servers), _facts(wanted.servers)
    if there == asked:
        return []
    problems = list(_counted(there, wanted.servers))
    if problems:
        return problems
    # The same addresses as often as they should be: compare them one by one.
    if [address for address, _, _ in there] != [address for address, _, _ in asked]:
        order = ", ".join(address for address, _, _ in asked)
        return [f"the servers should be in the order {order}"]
    return [
        f"server {address}: {problem}"
        for (address, parameters, is_down), line in zip(there, wanted.servers, strict=True)
        for problem in _difference(parameters, line, is_down=is_down)
    ]


def _facts(lines: Iterable[ServerLine]) -> list[tuple[str, tuple[str, ...], bool]]:
    return [(line.address, line.parameters, line.is_down) for line in lines]


def _counted(
    there: Sequence[tuple[str, tuple[str, ...], bool]], wanted: Sequence[ServerLine]
) -> Iterable[str]:
    """Answers which addresses come too often, too seldom, or without being asked for."""
    have = Counter(address for address, _, _ in there)
    names = {line.address: line.backend for line in wanted}
    asked = Counter(line.address for line in wanted)
    for address, times in asked.items():
        if have[address] != times:
            whose = f" of {names[address]}" if names[address] else ""
            is_there = f"should be there {times}x, is there {have[address]}x"
            yield f"the line for {address}{whose} {is_there}"
    for address in have.keys() - asked.keys():
        yield f"there is a server {address} that nobody asked for"


def _difference(parameters: Sequence[str], wanted: ServerLine, *, is_down: bool) -> Iterable[str]:
    if is_down and not wanted.is_down:
        yield "should be live, is `down`"
    if wanted.is_down and not is_down:
        yield "should be `down`, is live"
    if tuple(parameters) != wanted.parameters:
        keys = {key_of(p) for p in set(parameters) ^ set(wanted.parameters)}
        about = f" ({', '.join(sorted(keys))})" if keys else ""
        yield (
            f"parameters{about} should be `{' '.join(wanted.parameters)}`, "
            f"are `{' '.join(parameters)}`"
        )
