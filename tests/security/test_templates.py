"""A user's template shapes text and reaches nothing: no attribute, file or module is free."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolling_deploy.errors import TemplateWrong
from rolling_deploy.upstreams.render import ServerView, UpstreamView
from rolling_deploy.upstreams.template import Trusted, run_template
from tests.security.hostile import MARK

SERVER = ServerView(
    Trusted("server 127.0.0.1:1;"), "app1", "127.0.0.1:1", ("weight=2",), False, "", "z", {"a": 1}
)
UPSTREAM = UpstreamView("shop", (), (Trusted("server 127.0.0.1:1;"),), (), (SERVER,))
VALUES = {
    "application": "shop",
    "load_balancer": "lb1",
    "variables": {"a": "x", "list": [1, 2]},
    "upstreams": (UPSTREAM,),
    "after": (),
}


def render(text: str) -> str:
    return run_template(text, "t.j2", VALUES)


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ ''['__class__'] }}",
    "{{ [''.__class__]|map(attribute='__mro__')|list }}",
    "{{ [1]|map('attr', '__class__')|list }}",
    "{{ variables.__class__ }}",
    "{{ upstreams[0].__class__.__init__.__globals__ }}",
    "{{ upstreams[0].servers[0].line.__class__ }}",
    "{{ upstreams.__class__.__base__.__subclasses__() }}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ '{a.__class__}'.format_map({'a': ''}) }}",
    "{{ ('{0.__class__}'|attr('format'))('') }}",
    "{% set f = ''.format %}{{ f.__self__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os.popen('touch PWNED') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('touch PWNED').read() }}",
    "{{ range.__self__ }}",
    "{{ (lambda: 0) }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{{ variables.list.append(3) }}{{ variables.list|length }}",
    "{{ variables.update({'a': 'y'}) }}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
]
READS = [
    "{% include '/etc/passwd' %}",
    "{% include 'inventory.yaml' %}",
    "{% include ['a', '../../etc/passwd'] %}",
    "{% import '/etc/passwd' as p %}",
    "{% from 'x' import y %}",
    "{% extends '/etc/passwd' %}",
    "{{ open('/etc/passwd').read() }}",
    "{% import 'os' as os %}{{ os.popen('touch PWNED') }}",
]
BOMBS = [
    "{% for x in range(100001) %}{% endfor %}",
    "{% for x in range(10**9) %}{% endfor %}",
    "{% include 't.j2' %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
]


@pytest.mark.parametrize("text", [*ESCAPES, *READS, *BOMBS])
def test_a_template_that_reaches_out_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(TemplateWrong) as caught:
        render(text)
    assert caught.value.problems[0].startswith("t.j2")
    assert "root:" not in str(caught.value.problems), "nothing of a file is shown"
    assert VALUES["variables"] == {"a": "x", "list": [1, 2]}, "what is frozen stays as it is"
    assert not Path(MARK).exists()


@pytest.mark.parametrize(
    "value", ["a;b", "}", "{", "#", "'", '"', "\\", "a\nb", "\x00", "\x1b", "$(x);", "\x7f"]
)
@pytest.mark.parametrize(
    "text",
    [
        "{{ variables.evil }}",
        "{{ variables.evil|string }}",
        "{{ variables.evil ~ 'x' }}",
        "{{ '%s'|format(variables.evil) }}",
        "{% set x = variables.evil %}{{ x }}",
        "{% set x %}{{ variables.evil }}{% endset %}{{ x }}",
        "{% macro m(v) %}{{ v }}{% endmacro %}{{ m(variables.evil) }}",
        "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{variables.evil}}{% endcall %}",
        "{{ [variables.evil]|join }}",
        "{{ variables.evil|safe }}",
        "{% filter upper %}{{ variables.evil }}{% endfilter %}",
        "{% autoescape true %}{{ variables.evil }}{% endautoescape %}",
        "{{ upstreams[0].servers[0].line ~ variables.evil }}",
        "{{ upstreams[0].servers[0].line.__add__(variables.evil) }}",
        "{{ upstreams[0].servers[0].line.replace('server', variables.evil) }}",
    ],
)
def test_a_variable_never_ends_a_directive_by_accident(text: str, value: str) -> None:
    values = {**VALUES, "variables": {"evil": value}}
    with pytest.raises(TemplateWrong):
        run_template(text, "t.j2", values)


def test_what_a_template_is_for_still_works() -> None:
    text = (
        "{% for u in upstreams %}upstream {{ u.name }} {\n{% for e in u.entries %}{{ e }}\n"
        "{% endfor %}}\n{% endfor %}{{ '%s-%d'|format('a', 3) }} {{ 'x y'|quoted }}"
    )
    assert render(text) == 'upstream shop {\nserver 127.0.0.1:1;\n}\na-3 "x y"'
