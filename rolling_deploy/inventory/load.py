"""Loading an inventory: the file in, the settings out, or every problem at once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from rolling_deploy.errors import InventoryWrong
from rolling_deploy.inventory.build import Source, build
from rolling_deploy.inventory.checks import check
from rolling_deploy.inventory.document import read_document
from rolling_deploy.inventory.merge import given
from rolling_deploy.inventory.model import InventoryShape
from rolling_deploy.inventory.places import local, shipped_template
from rolling_deploy.inventory.problems import KeyPath, Problems
from rolling_deploy.inventory.shape import read_shape
from rolling_deploy.settings import Inventory

BYTES_MAX = 10_000_000
"""A thousand backends take some 300,000 bytes."""


def load_inventory(path: Path) -> Inventory:
    """Answers everything the inventory file says, with every default applied.

    Reads the file and the template it names, and nothing else; no machine is asked anything.

    Raises:
        InventoryWrong: with all `problems`, each `file:line: key: should be X, is Y`.
    """
    problems = Problems(str(path))
    content = _read(path, problems)
    if content is None or not read_document(content, problems):
        raise _wrong(path, problems)
    shape = read_shape(problems)
    check(shape, problems)
    name, template = _template(path, shape.template, problems)
    manager_template = _manager_template(path, shape, problems)
    if problems.found:
        raise _wrong(path, problems)
    digest = hashlib.sha256(content).hexdigest()
    return build(shape, Source(path, digest, name, template, manager_template))


def _wrong(path: Path, problems: Problems) -> InventoryWrong:
    count = len(problems.found)
    return InventoryWrong(
        f"the inventory has {count} problems" if count > 1 else "the inventory has a problem",
        problems=problems.texts(),
        where=str(path),
        next_step=(
            "correct the file and run the same command again; `inventory.example.yaml` explains "
            "every key, and `-i FILE` names another inventory"
        ),
    )


def _read(path: Path, problems: Problems) -> bytes | None:
    reason = ""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) <= BYTES_MAX:
            return content
        reason = f"larger than {BYTES_MAX} bytes"
    except OSError as error:
        reason = _reason(error)
    except ValueError:  # A NUL character in the name.
        reason = "no name of a file"
    problems.at_line(1, "", "a file that can be read", reason)
    return None


def _reason(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "missing"
        case IsADirectoryError():
            return "a directory"
        case PermissionError():
            return "not readable for this user"
        case _:
            return f"not: {os.strerror(error.errno or 0).lower()}"


def _template(path: Path, given: str | None, problems: Problems) -> tuple[str, str]:
    """Answers path and text of the template; a problem and nothing where it cannot be read."""
    if given is None:
        shipped = shipped_template()
        if shipped is None:
            problems.add(
                ("template",), "set", "missing", "this installation came without its own template"
            )
        return shipped or ("", "")
    name = local(given, path)
    return name, _read_template(name, ("template",), problems)


def _manager_template(path: Path, shape: InventoryShape, problems: Problems) -> str:
    manager = given(given(shape.setup).get("session_manager"))
    if not manager.get("template"):
        return ""
    place = ("setup", "session_manager", "template")
    return _read_template(local(manager["template"], path), place, problems)


def _read_template(name: str, place: KeyPath, problems: Problems) -> str:
    reason = ""
    try:
        return Path(name).read_text("utf-8")
    except OSError as error:
        reason = _reason(error)
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    except ValueError:
        reason = "no name of a file"
    problems.add(place, "a file that can be read", f"`{name}`, which is {reason}")
    return ""
