"""Canary sessions for the record: sealed, because whoever has a session's cookie is its user."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken

from rolling_deploy.remote.canary_session import Session
from rolling_deploy.settings import CanarySettings

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1
"""The parameters for interactive logins of the scrypt paper: 16 MB and some tens of milliseconds,
once for a rollout."""


class NotSealable(Exception):
    """There is no secret that everybody who may go on with the rollout knows."""


def seal(sessions: Sequence[Session], canary: CanarySettings, rollout: str) -> str:
    """Answers the sessions as a text that only who knows the canary's own passwords can open.

    Those are what `form_env` names; without them nobody could make such sessions, and with them
    everybody can.

    Raises:
        NotSealable: no password is configured, or one is not set.
    """
    plain = [[s.marker, s.cookies, s.made_on] for s in sessions]
    text = json.dumps(plain).encode("utf-8")
    return Fernet(_key(canary, rollout)).encrypt(text).decode("ascii")


def opened(sealed: str, canary: CanarySettings, rollout: str) -> tuple[Session, ...]:
    """Answers the sessions again.

    Raises:
        NotSealable: sealed with other passwords, or changed since.
    """
    try:
        text = Fernet(_key(canary, rollout)).decrypt(sealed.encode("ascii"))
        return tuple(Session(*one) for one in json.loads(text))
    except (InvalidToken, ValueError, TypeError):
        raise NotSealable("sealed with another password than the one set now") from None


def _key(canary: CanarySettings, rollout: str) -> bytes:
    requests = [one for one in (canary.create, canary.read, canary.write) if one]
    names = sorted({name for one in requests for name in one.form_env.values()})
    if not names:
        raise NotSealable("no `form_env` names a password to seal with")
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise NotSealable(f"environment variable {', '.join(missing)} is not set")
    secret = json.dumps([os.environ[name] for name in names]).encode("utf-8", "surrogateescape")
    salt = f"rolling-deploy {rollout}".encode()
    key = hashlib.scrypt(secret, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, dklen=32)
    return base64.urlsafe_b64encode(key)
