"""TLS towards the session store: what is shown and believed, and what a failure of it means."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolling_deploy.remote.session_store_address import Address
    from rolling_deploy.settings import SessionStoreSettings

_SIGNED_BY_UNKNOWN = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's X509_V_ERR numbers: by whom it is signed; for whom it is."""
_OF_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""In OpenSSL's names of the alerts that a server sends because of a client's certificate."""
_NO_PASSWORD = ""
"""A key with a password is refused: OpenSSL would ask for it on the terminal of whoever waits."""


def tls_options(settings: SessionStoreSettings, address: Address) -> dict[str, Any] | None:
    """Answers redis-py's options for TLS; None where the url asks for none.

    Without `tls_ca` the authorities are those that this machine trusts.

    Raises:
        ValueError: a file cannot be read, or is not what it should be; or files without TLS.
    """
    files = {
        "tls_ca": settings.tls_ca,
        "tls_certificate": settings.tls_certificate,
        "tls_key": settings.tls_key,
    }
    given = [name for name, file in files.items() if file]
    if not address.is_tls:
        if given:
            msg = f"`{given[0]}` is for a url that begins with `rediss`, is `{settings.url}`"
            raise ValueError(msg)
        return None
    if settings.tls_key and not settings.tls_certificate:
        msg = "`tls_key` without `tls_certificate`, which it is the key of"
        raise ValueError(msg)
    _try(settings)
    options: dict[str, Any] = {}
    if settings.tls_ca:
        options["ssl_ca_certs"] = settings.tls_ca
    if settings.tls_certificate:
        options["ssl_certfile"] = settings.tls_certificate
        options["ssl_keyfile"] = settings.tls_key or settings.tls_certificate
        options["ssl_password"] = _NO_PASSWORD
    return options


def _try(settings: SessionStoreSettings) -> None:
    """Read the files once, so that what is wrong with one is not taken for the server's fault."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.tls_ca:
        try:
            context.load_verify_locations(settings.tls_ca)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ValueError(_unusable("tls_ca", settings.tls_ca, error)) from error
    if settings.tls_certificate:
        certificate, key = settings.tls_certificate, settings.tls_key or settings.tls_certificate
        try:
            context.load_cert_chain(certificate, key, password=_NO_PASSWORD)
        except (OSError, ValueError) as error:
            named = f"{certificate}` with the key in `{key}"
            raise ValueError(_unusable("tls_certificate", named, error)) from error


def _unusable(name: str, file: str, error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return f"`{name}` cannot be used: `{file}`: {str(reason).replace('_', ' ').lower()}"


def trouble(error: BaseException, place: str, *, is_named: bool, options: dict[str, Any]) -> str:
    """Answers what went wrong between us and a server that speaks TLS; empty when it was no TLS.

    Args:
        error: whatever redis-py made of it.
        place: of the server, for a person.
        is_named: the url names this server; otherwise the sentinels or the cluster do.
        options: as `tls_options` gave them.
    """
    cause = _of_tls(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = str(cause.verify_message).rstrip(".")
        hint = ""
        if cause.verify_code in _SIGNED_BY_UNKNOWN:
            hint = "; `tls_ca` names another authority"
            if "ssl_ca_certs" not in options:
                hint = "; `session_store.tls_ca` can name the file of an authority of your own"
        elif cause.verify_code in _OTHER_NAME and not is_named:
            hint = "; that is what it is called by the others, see the names that they announce"
        return f"the certificate of {place} does not fit: {said}{hint}"
    reason = str(getattr(cause, "reason", None) or "")
    has_ours = "ssl_certfile" in options
    if "CERTIFICATE_REQUIRED" in reason or ("HANDSHAKE_FAILURE" in reason and not has_ours):
        words = "`session_store.tls_certificate` and `tls_key` name one"
        return f"{place} wants a certificate of ours: {words} ({_plain(reason)})"
    if has_ours and "ALERT" in reason and any(word in reason for word in _OF_CERTIFICATES):
        return f"{place} does not accept our certificate (`tls_certificate`): {_plain(reason)}"
    return f"no TLS with {place}: {_plain(reason)}" if reason else ""


def _of_tls(error: BaseException) -> ssl.SSLError | None:
    """Answers what OpenSSL said, which redis-py keeps as the cause of its own error."""
    at: BaseException | None = error
    for _ in range(4):
        if at is None or isinstance(at, ssl.SSLError):
            return at
        at = at.__cause__ or at.__context__
    return None


def _plain(reason: str) -> str:
    return reason.replace("_", " ").lower()
