"""The generation endpoint: how a running nginx says which rendering of the file it has loaded.

It stands in the same file as the upstreams, so an answer with the new generation proves that this
very file was loaded. Our code appends it after the template's output; no template can forget it.
"""

from __future__ import annotations

import re

from rolling_deploy.settings import generation_host
from rolling_deploy.upstreams.grammar import Statement

_DOMAIN = ".rolling-deploy.internal"
_APPLICATION = re.compile(r"[A-Za-z0-9](\.?[A-Za-z0-9_-]+)*")
_GENERATION = re.compile(r"[A-Za-z0-9._:-]+")
_VALUE = re.compile(r'(location = /generation \{[^{}]*?return 200 ")([^"\n]*)(";)')


def is_application(name: str) -> bool:
    """Answers whether the name can be part of a server name as it is."""
    return _APPLICATION.fullmatch(name) is not None


def is_generation(text: str) -> bool:
    """Answers whether the text can stand in the endpoint as it is."""
    return _GENERATION.fullmatch(text) is not None


def endpoint(application: str, port: int, generation: str) -> str:
    """Answers the server block, as it stands at the end of a managed file."""
    return f"""\
# Tells rolling-deploy which version of this file nginx has loaded. Loopback only.
server {{
    listen 127.0.0.1:{port};
    server_name {generation_host(application)};
    access_log off;
    location = /generation {{
        default_type text/plain;
        return 200 "{generation}";
    }}
    location / {{
        return 404;
    }}
}}
"""


FIRST_COMMENT = endpoint("", 0, "").split("\n", 1)[0]


def is_endpoint(statement: Statement) -> bool:
    """Answers whether a statement is a generation endpoint of ours."""
    if statement.name != "server" or statement.block is None:
        return False
    return any(
        isinstance(item, Statement)
        and item.name == "server_name"
        and any(name.endswith(_DOMAIN) for name in item.arguments())
        for item in statement.block
    )


def generations_in(text: str) -> tuple[str, ...]:
    """Answers the generation that each endpoint in the text would say."""
    return tuple(match[2] for match in _VALUE.finditer(text))


def neutral(text: str) -> str:
    """Answers the text with the generation of every endpoint blanked."""
    return _VALUE.sub(r"\1\3", text)
