"""Reading YAML as another program would."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import RoundTripConstructor


def read_yaml(text: str) -> Any:
    """Answers what is in a file of YAML 1.1, tags aside."""
    yaml = YAML(typ="rt")
    yaml.version = (1, 1)
    assert issubclass(yaml.Constructor, RoundTripConstructor)
    return yaml.load(text)
