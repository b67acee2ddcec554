"""Where files are when the inventory does not say: here, beside it, and on the machines."""

from __future__ import annotations

import os
import posixpath
from importlib import resources
from pathlib import Path

STATE_DIR = ".rolling-deploy"
"""Begins with a dot: nginx's `include` is a glob, and Tomcat looks into its directories."""
TEMPLATE = "templates/upstream.conf.j2"


def nginx_file(application: str) -> str:
    """Answers the managed file: where Debian's and nginx.org's packages include from."""
    return f"/etc/nginx/conf.d/{application}.upstream.conf"


def load_balancer_state_dir(file: str, application: str) -> str:
    """Answers the state directory beside the managed file, one for each application."""
    return posixpath.join(posixpath.dirname(file), STATE_DIR, application)


def backend_state_dir(place: str) -> str:
    """Answers the state directory in the backend's own place, so on the same file system."""
    return posixpath.join(place, STATE_DIR)


def local(path: str, inventory: Path) -> str:
    """Answers a path on this machine as absolute; a relative one is beside the inventory."""
    beside = os.path.dirname(os.path.abspath(inventory))  # noqa: PTH100, PTH120 # no symlink is followed
    return os.path.normpath(os.path.join(beside, os.path.expanduser(path)))  # noqa: PTH111, PTH118 # a text


def shipped_template() -> tuple[str, str] | None:
    """Answers path and text of the template that comes with rolling-deploy, if it is there.

    It is part of the installed package; in a checkout it is at the top level.
    """
    checkout = Path(__file__).parents[2] / TEMPLATE
    for place in (resources.files("rolling_deploy") / TEMPLATE, checkout):
        if place.is_file():
            return str(place), place.read_text("utf-8")
    return None
