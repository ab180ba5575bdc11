"""A client of the local API, for apps on the device: standard library only, and nothing of the device's service.

with Client("/run/coda/api.sock") as coda:
coda.tell([{"kind": "click", "item": 7}])
print(coda.rank([3, 5, 7])["items"])
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any


class ApiError(Exception):
    """The device said no.

    Attributes:
        status: HTTP's.
        code: A word for programs, such as ``no-model``.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code}, {status})")
        self.status = status
        self.code = code


class Client:
    """One connection, kept open. Not thread-safe.

    Args:
        address: Path of the Unix socket, or the port on loopback.
        timeout_s: How long an answer may take.
    """

    def __init__(self, address: str | int, timeout_s: float = 10.0) -> None:
        self._connection = http.client.HTTPConnection("localhost", timeout=timeout_s)
        self._address = address

    def rank(
        self,
        items: Sequence[int],
        features: Mapping[str, Sequence[Any]] | None = None,
        context: Mapping[str, Any] | None = None,
        top: int | None = None,
    ) -> dict[str, Any]:
        """Candidates from the best to the worst, and the version of the model that says so."""
        asked = {"items": list(items), "features": features, "context": context, "top": top}
        return self._ask("POST", "/v1/rank", {name: value for name, value in asked.items() if value is not None})

    def tell(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Events; on the device's disk when this returns."""
        return self._ask("POST", "/v1/events", {"events": list(events)})

    def status(self) -> dict[str, Any]:
        """What the device serves, and what it is doing."""
        return self._ask("GET", "/v1/status", None)

    def forget(self) -> dict[str, Any]:
        """Forget the user, for good."""
        return self._ask("POST", "/v1/forget", {"user": True})

    def _ask(self, method: str, path: str, value: Any) -> dict[str, Any]:
        if self._connection.sock is None:
            self._connection.sock = self._connect()
        body = None if value is None else json.dumps(value, separators=(",", ":")).encode()
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            found: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next call connects anew
            raise
        if answer.status != http.HTTPStatus.OK:
            raise ApiError(answer.status, found["error"], found["detail"])
        return found

    def _connect(self) -> socket.socket:
        if isinstance(self._address, int):
            connected = socket.create_connection(("127.0.0.1", self._address), self._connection.timeout)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(self._connection.timeout)
        try:
            connected.connect(self._address)
        except OSError:
            connected.close()
            raise
        return connected

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
