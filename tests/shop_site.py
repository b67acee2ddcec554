"""The shop of `tomcat_app/shop` as what a fleet of Tomcats runs, and the canary that knows it."""

from __future__ import annotations

from tests.counting_shop import Application
from tests.shop_releases import COMPATIBLE, COOKIE, FIRST, KEY_PREFIX, SHOP, write_shop

PASSWORD_ENV = "SHOP_CANARY_PASSWORD"
CANARY = f"""
session_canary:
  create:
    path: /login
    method: POST
    form: {{user: "canary-{{marker}}"}}
    form_env: {{password: {PASSWORD_ENV}}}
  read: {{path: /cart}}
  expect: "Hello canary-{{marker}}"
  write: {{path: /cart, method: POST, form: {{item: "book-{{written}}"}}}}
  written: "1 x book-{{written}}"
  cookie: {COOKIE}
"""


def shop() -> Application:
    """Answers the shop with its login and its cart, and the canary that knows both."""
    files = {
        "context.xml": (SHOP / "tomcat-context.xml").read_text(),
        "redisson.yaml": (SHOP / "redisson.yaml").read_text(),
    }
    session_key = f'  session_key: "{KEY_PREFIX}:redisson:tomcat_session:{{id}}"\n'
    first = (FIRST.version, COMPATIBLE.version)
    return Application(first, write_shop, files, KEY_PREFIX, session_key, CANARY)
