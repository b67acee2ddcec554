"""One upload that takes as long as a test wants: begun, held, and finished by hand."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
from typing import Self

LIMIT_S = 300.0


class SlowUpload:
    """An upload to a site whose last byte is not sent until `finish`.

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
        self._connection.send(self._body[:-1])

    def finish(self) -> str:
        """Send the last byte and answer which backend took it, by its version.

        Raises:
            AssertionError: it was not answered as it should be.
        """
        self._connection.send(self._body[-1:])
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        assert json.loads(body)["sha256"] == hashlib.sha256(self._body).hexdigest()
        return answer.headers["X-Backend"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()
