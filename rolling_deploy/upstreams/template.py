"""The user's template: run by Jinja2 in a sandbox, and nothing passes through it by accident.

Every value that a template prints is looked at: a plain value may not hold a character that
means something to nginx, so no variable can end a directive and begin another. Finished lines
(`entry`, `server.line`) and the results of macros pass as they are.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from jinja2 import (
    FunctionLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    Undefined,
)
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rolling_deploy.errors import TemplateWrong

_MEANS_SOMETHING = re.compile(r"[\x00-\x1f\x7f;{}#\"'\\]")


class Trusted(str):
    """Text that is known to be right for nginx as it is."""

    __slots__ = ()


class ValueWrong(ValueError):
    """A value that must not be printed into a configuration file."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How the values of a template are written into what it renders.

    Attributes:
        printed: answers what stands for a value; raises `ValueWrong`.
        names: what a template may use, for the message about one that is not there.
        filters: by name.
    """

    printed: Callable[[object], object]
    names: tuple[str, ...]
    filters: tuple[tuple[str, Callable[..., object]], ...] = ()


class _Undefined(StrictUndefined):
    """An undefined variable that knows what is there with a similar name."""

    _names: tuple[str, ...] = ()

    @property
    def _undefined_message(self) -> str:
        name = str(self._undefined_name)
        owner = self._undefined_obj
        if is_dataclass(owner):
            known: Iterable[str] = (field.name for field in fields(owner))
            what = f"`{name}` is not known of {type(owner).__name__.removesuffix('View').lower()}"
        elif isinstance(owner, Mapping):
            known = map(str, owner)
            what = f"the variable `{name}` is not defined"
        else:
            known = self._names
            what = f"`{name}` is not defined"
        near = get_close_matches(name, list(known), n=3, cutoff=0.5)
        return what + (f"; is it {' or '.join(f'`{n}`' for n in near)}?" if near else "")


_NAMES = (
    "application",
    "load_balancer",
    "upstreams",
    "variables",
    "after",
    "upstream",
    "server",
    "entry",
)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2 without access to anything, in which what a macro has printed counts as looked at."""

    def call(self, context: Context, called: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 # Jinja2's own signature
        """Answers what a call in the template gives."""
        result = super().call(context, called, *args, **kwargs)
        if isinstance(called, Macro) and isinstance(result, str):
            return Trusted(result)
        return result


@lru_cache(maxsize=8)
def _compiled(text: str, name: str, writing: Writing) -> Template:
    environment = _Environment(
        loader=FunctionLoader(lambda wanted: (text, name, None) if wanted == name else None),
        undefined=type("_Undefined", (_Undefined,), {"_names": writing.names}),
        finalize=lambda value: _finished(value, writing),
        autoescape=False,  # it is no HTML; `finalize` guards what the file's reader minds
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(dict(writing.filters))
    return environment.get_template(name)


def run_template(
    text: str, name: str, values: Mapping[str, Any], writing: Writing | None = None
) -> str:
    """Answers what the template renders with these values, written for nginx unless said otherwise.

    Raises:
        TemplateWrong: a syntax error, an undefined variable, a value that would not be taken as
            one, or any other failure, with the template's name and line.
    """
    try:
        return _compiled(text, name, writing or _FOR_NGINX).render(values)
    except TemplateSyntaxError as error:
        raise _wrong(name, error.lineno, str(error.message)) from None
    except TemplateNotFound as error:
        reason = f"there is no template `{error.name}`: one template stands alone"
        raise _wrong(name, _line_in(error, name), reason) from None
    except (TemplateError, ValueWrong) as error:
        raise _wrong(name, _line_in(error, name), str(error)) from None
    except Exception as error:  # noqa: BLE001 # a template can fail in any way Python can
        reason = f"{type(error).__name__}: {error}"
        raise _wrong(name, _line_in(error, name), reason) from None


def quoted(value: object) -> Trusted:
    """Answers a value as one quoted word of nginx, whatever is in it.

    Raises:
        ValueError: it holds a control character, which no quoting makes harmless to read.
    """
    text = str(value)
    if re.search(r"[\x00-\x1f\x7f]", text):
        reason = f"the value {text!a} holds a control character"
        raise ValueWrong(reason)
    return Trusted('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')


def _finished(value: object, writing: Writing) -> object:
    if isinstance(value, Trusted):
        return value
    if isinstance(value, Undefined):
        return str(value)  # raises, with its name
    return writing.printed(value)


def _looked_at(value: object) -> object:
    """Answers the value if it can be printed as it is."""
    if not isinstance(value, str | int | float):
        kind = "null" if value is None else f"a {type(value).__name__}"
        reason = f"a value is {kind}, which nginx has no writing for"
        raise ValueWrong(reason)
    if found := _MEANS_SOMETHING.search(str(value)):
        reason = (
            f"the value {str(value)!a} holds {found[0]!a}, which means something to nginx; print "
            "it with `| quoted`, or write the directive in the template itself"
        )
        raise ValueWrong(reason)
    return value


_FOR_NGINX = Writing(_looked_at, _NAMES, (("quoted", quoted),))


def _line_in(error: Exception, name: str) -> int:
    """Answers the template's line that failed, 0 when it is not known."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno or 0 for f in reversed(frames) if f.filename == name), 0)


def _wrong(name: str, line: int, reason: str) -> TemplateWrong:
    where = f"{name}:{line}" if line else name
    return TemplateWrong(
        "the template cannot be rendered", problems=[f"{where}: {reason}"], where=where
    )
