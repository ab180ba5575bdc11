"""As much of HTTP/1.1 as a local app needs: requests with a body of known length, one after another on a connection.

Only what is asked for is built: the standard library's own server takes longer to read a head than the model to score
a hundred candidates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

MAX_HEAD_BYTES = 8 << 10
MAX_BODY_BYTES = 4 << 20
MAX_PARTS = 200_000  # lists and objects of a body: each takes fifty times the bytes of its brackets
_READ_BYTES = 64 << 10
_MOST_EXACT = 2.0**53  # whole numbers above it are not told apart
_ONCE = ("host", "content-length")  # of two, the peer and we might each believe another
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]", ""})

Receive = Callable[[int], bytes]
Send = Callable[[bytes], object]
Reserve = Callable[[int], object]


class HttpError(Exception):
    """A request that is answered by a status.

    Attributes:
        status: The status.
        code: A word for programs.
        closes: Whether the connection cannot be used any more.
        headers: What the answer says beside, by name.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        closes: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.closes = closes
        self.headers = headers or {}


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        method: In capitals.
        path: Without the query.
        headers: By name in small letters.
        body: As it came.
        keep_alive: Whether another may follow.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool

    def json(self) -> Any:
        """The body's value.

        Raises:
            HttpError: If it is not JSON, or was not said to be.
        """
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # A web page cannot say so without asking first, so that no page on the same machine speaks for the user.
            raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media-type", "Content-Type: application/json is needed")
        if self.body.count(b"[") + self.body.count(b"{") > MAX_PARTS:
            detail = f"the body has more than {MAX_PARTS} lists and objects"
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
        try:
            return json.loads(self.body, parse_constant=_no_number, parse_float=_number)
        except (ValueError, RecursionError) as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, "not-json", f"the body is not JSON: {error}") from error


@dataclass(frozen=True)
class Answer:
    """What is answered to one request.

    Attributes:
        status: The status.
        value: The body, as JSON writes it.
        headers: What else is said, by name.
    """

    status: HTTPStatus
    value: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class Connection:
    """Reads requests of one peer.

    Args:
        receive: Gives at most so many bytes, none at the end.
        send: Sends bytes.
        reserve: Told the size of a body before it is read; may wait, or raise `HttpError`.
    """

    def __init__(self, receive: Receive, send: Send, reserve: Reserve = lambda _size: None) -> None:
        self._receive = receive
        self._send = send
        self._reserve = reserve
        self._buffer = b""

    def next(self) -> Request | None:
        """The next request; None where the peer has no more.

        Raises:
            HttpError: If it cannot be read.
        """
        head = self._head()
        if head is None:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = _request_line(first)
        headers = _headers(lines)
        _check_local(headers)
        body = self._body(headers)
        close = headers.get("connection", "").lower() == "close" or version == "HTTP/1.0"
        return Request(method, target.partition("?")[0], headers, body, not close)

    def _head(self) -> bytes | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0 and len(self._buffer) <= MAX_HEAD_BYTES:
            if not (piece := self._receive(_READ_BYTES)):
                return None
            self._buffer += piece
        if not 0 <= end <= MAX_HEAD_BYTES:
            raise HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head", "the head is too large", closes=True)
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return head

    def _body(self, headers: Mapping[str, str]) -> bytes:
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isascii() or not length.isdigit():
            raise HttpError(HTTPStatus.LENGTH_REQUIRED, "length", "a Content-Length is needed", closes=True)
        if len(length) > 12 or int(length) > MAX_BODY_BYTES:
            detail = f"the body is larger than {MAX_BODY_BYTES} bytes"
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail, closes=True)
        self._reserve(int(length))
        if headers.get("expect", "").lower() == "100-continue":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        pieces, missing = [self._buffer], int(length) - len(self._buffer)
        while missing > 0:
            if not (piece := self._receive(min(missing, _READ_BYTES))):
                raise HttpError(HTTPStatus.BAD_REQUEST, "cut-short", "the body ends too early", closes=True)
            pieces.append(piece)
            missing -= len(piece)
        whole = b"".join(pieces)
        self._buffer = whole[int(length) :]
        return whole[: int(length)]


def response(answer: Answer, *, keep_alive: bool) -> bytes:
    """A response whose body is JSON."""
    status = answer.status
    body = json.dumps(answer.value, separators=(",", ":"), allow_nan=False).encode()
    end = "keep-alive" if keep_alive else "close"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: {end}\r\n"
    )
    more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    return f"{head}{more}\r\n".encode("ascii") + body


def _request_line(line: str) -> tuple[str, str, str]:
    words = line.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not words[1].startswith("/"):
        raise HttpError(HTTPStatus.BAD_REQUEST, "request-line", "this is not an HTTP/1.1 request", closes=True)
    return words[0], words[1], words[2]


def _headers(lines: list[str]) -> dict[str, str]:
    found = list(map(_header, lines))
    names = [name for name, _ in found]
    if any(names.count(name) > 1 for name in _ONCE):
        raise HttpError(HTTPStatus.BAD_REQUEST, "header", f"{' and '.join(_ONCE)} are said once", closes=True)
    return dict(found)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise HttpError(HTTPStatus.BAD_REQUEST, "header", "a header cannot be read", closes=True)
    return name.lower(), value.strip()


def _check_local(headers: Mapping[str, str]) -> None:
    """A web page must not reach the device through its visitor's browser, under whatever name."""
    host = headers.get("host", "").lower()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
    if name not in _LOCAL_HOSTS or "origin" in headers:
        raise HttpError(HTTPStatus.FORBIDDEN, "not-local", "only programs on this machine are served", closes=True)


def _number(text: str) -> int | float:
    """JSON knows one kind of number: 1.0 is the whole number 1."""
    value = float(text)
    return int(value) if abs(value) <= _MOST_EXACT and value.is_integer() else value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
