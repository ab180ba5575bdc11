"""The local API's HTTP: what is no good request, who waits for whom, and whose sockets there are."""

from __future__ import annotations

import json
import select
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.client import ApiError, Client
from edge.local_api.http_wire import MAX_BODY_BYTES, MAX_HEAD_BYTES
from edge.local_api.server import MAX_CONNECTIONS, Server
from tests.edge.api_device import ApiDevice, device, valid

__all__ = ["device"]


def _raw(device: ApiDevice, sent: bytes) -> tuple[int, dict[str, Any], bytes]:
    """Status, body and the rest of what is answered to bytes, after which the peer says no more."""
    with socket.create_connection(("127.0.0.1", device.server.port or 0), 10) as peer:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        got = b""
        while piece := peer.recv(65536):
            got += piece
    got = got.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    return int(head.split()[1]), json.loads(body[:length]), body[length:]


_POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404, "path"),
        (b"GET /v1/rank HTTP/1.1\r\n\r\n", 405, "method"),
        (b"hello\r\n\r\n", 400, "request-line"),
        (b"GET /v1/status HTTP/3\r\n\r\n", 400, "request-line"),
        (b"GET /v1/status HTTP/1.1\r\nbroken\r\n\r\n", 400, "header"),
        (b"GET /v1/status HTTP/1.1\r\nX: " + b"x" * 2 * MAX_HEAD_BYTES, 431, "head"),
        (b"GET /v1/status HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", 431, "head"),
        (b"GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "not-local"),
        (b"GET /v1/status HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n", 400, "header"),
        (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n", 403, "not-local"),
        (_POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413, "too-large"),
        (_POST + b"Content-Length: -1\r\n\r\n", 411, "length"),
        (_POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "header"),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\n", 411, "length"),
        (_POST + b"Content-Length: 9\r\n\r\n{}", 400, "cut-short"),
        (_POST + b"Content-Length: 2\r\n\r\n{]", 400, "not-json"),
        (_POST + b"Content-Length: 900002\r\n\r\n[" + b"{}," * 300_000 + b"]", 413, "too-large"),
        (_POST + b"Content-Length: 5\r\n\r\n[NaN]", 400, "not-json"),
        (_POST + b"Content-Length: 2000\r\n\r\n" + b"[" * 2000, 400, "not-json"),
        (_POST.replace(b"application/json", b"text/plain") + b"Content-Length: 2\r\n\r\n{}", 415, "media-type"),
        (_POST + b"Content-Length: 2\r\n\r\n[]", 400, "bad-request"),
    ],
)
def test_what_is_no_good_request_is_refused(device: ApiDevice, sent: bytes, status: int, code: str) -> None:
    """By a status and a word; what a web page in a browser may send is not acted on."""
    got, body, _ = _raw(device, sent)
    assert (got, valid(body, "Problem")["error"]) == (status, code)


def test_requests_may_follow_each_other_at_once(device: ApiDevice) -> None:
    """Two requests in one piece, the second of which waits for 100 Continue, are answered in order."""
    event = json.dumps({"events": [{"kind": "click", "item": 3}]}).encode()
    second = _POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(event) + event
    status, body, rest = _raw(device, b"GET /v1/status HTTP/1.1\r\n\r\n" + second)
    assert (status, body["waiting_events"]) == (200, 0)
    assert b'"taken":1' in rest


def test_connections_are_bounded(device: ApiDevice) -> None:
    """One too many is told so, and there is room again when another ends."""
    clients = [Client(str(device.socket)) for _ in range(MAX_CONNECTIONS)]
    for client in clients:
        client.status()
    with Client(str(device.socket)) as one_too_many, pytest.raises((ApiError, ConnectionError)):
        one_too_many.status()
    for client in clients:
        client.close()


def test_large_bodies_are_read_one_at_a_time(device: ApiDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that many apps at once do not fill the memory; small ones pass, and who waits too long is told."""
    large = _POST + b"Content-Length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", device.server.port or 0), 10) as first:
        first.sendall(large + b" " * 1000)
        deadline_s = time.monotonic() + 10
        while not device.server._large.locked() and time.monotonic() < deadline_s:
            select.select([first], [], [], 0.01)
        with monkeypatch.context() as hurried:
            hurried.setattr("edge.local_api.server.IDLE_S", 1.0)
            assert _raw(device, large)[:2] == (
                503, {"error": "busy", "detail": "other large bodies are being read"},
            )  # fmt: skip
        with Client(str(device.socket)) as client:
            assert client.status()["disk"] == "ok"
        first.sendall(b" " * 99_000)
        assert b"not-json" in first.recv(1000)
    assert _raw(device, large + b" " * 100_000)[0] == 400


def test_a_request_that_drips_in_does_not_keep_its_place(device: ApiDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often another byte comes, a request is whole in time or its connection ends; another's is answered."""
    monkeypatch.setattr("edge.local_api.server.IDLE_S", 0.3)
    with socket.create_connection(("127.0.0.1", device.server.port or 0), 10) as peer:
        peer.sendall(b"GET /v1/status HTTP/1.1\r\nX: ")
        ended = False
        for _ in range(1000):
            if ended := bool(select.select([peer], [], [], 0.02)[0]):
                break
            peer.sendall(b"x")
        assert ended
    with Client(str(device.socket)) as client:
        assert client.status()["disk"] == "ok"


def test_the_socket_is_for_owner_and_group_and_goes_with_the_server(tmp_path: Path) -> None:
    """One that a killed process left behind is replaced."""
    path = tmp_path / "api.sock"
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(path))
    with Server(lambda _request: (_ for _ in ()).throw(AssertionError), path, None):
        assert path.stat().st_mode & 0o777 == 0o660
    assert not path.exists()


def test_a_refused_method_says_which_are_taken(device: ApiDevice) -> None:
    """In Allow, as HTTP asks of a 405; other answers say nothing of it."""
    with socket.create_connection(("127.0.0.1", device.server.port or 0), 10) as peer:
        peer.sendall(b"DELETE /v1/events HTTP/1.1\r\n\r\nGET /v1/status HTTP/1.1\r\nConnection: close\r\n\r\n")
        with peer.makefile("rb") as answers:
            got = answers.read()
    refused, _, told = got.partition(b"HTTP/1.1 200")
    assert refused.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: POST\r\n" in refused
    assert b"Allow" not in told
