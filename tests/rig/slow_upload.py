"""One upload that takes as long as a test wants: begun, held, and finished by hand."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import threading
from typing import Self

LIMIT_S = 300.0
# nginx ends an upload that is silent for `client_body_timeout`, 60 s unless told.
SIGN_OF_LIFE_S = 5.0


class SlowUpload:
    """An upload to a site whose last byte is not sent until `finish`; the others drip meanwhile.

    nginx chooses the backend only when the whole body is there, so until then the worker that
    holds it may still send to a backend that its own configuration believes to be up.
    """

    def __init__(self, port: int, size: int = 10_000) -> None:
        self._body = bytes(index % 251 for index in range(size))
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        self._connection.putrequest("POST", "/upload")
        self._connection.putheader("Content-Length", str(size))
        self._connection.putheader("Connection", "close")
        self._connection.endheaders()
        self._sent = size // 2
        self._connection.send(self._body[: self._sent])
        self._is_over = threading.Event()
        self._drips = threading.Thread(target=self._drip, daemon=True)
        self._drips.start()

    def _drip(self) -> None:
        with contextlib.suppress(OSError):
            while self._sent < len(self._body) - 1 and not self._is_over.wait(SIGN_OF_LIFE_S):
                self._connection.send(self._body[self._sent : self._sent + 1])
                self._sent += 1

    def _end_drips(self) -> None:
        self._is_over.set()
        self._drips.join(LIMIT_S)

    def finish(self) -> str:
        """Send the rest and answer which backend took it, by its version.

        Raises:
            AssertionError: it was not answered as it should be.
        """
        self._end_drips()
        self._connection.send(self._body[self._sent :])
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        assert json.loads(body)["sha256"] == hashlib.sha256(self._body).hexdigest()
        return answer.headers["X-Backend"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._end_drips()
        with contextlib.suppress(OSError):
            self._connection.close()
