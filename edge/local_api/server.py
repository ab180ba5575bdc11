"""The local API's sockets: a Unix socket, and loopback where the owner asks for it; a thread for each connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path

from edge.local_api.api import problem, refusal
from edge.local_api.http_wire import Answer, Connection, HttpError, Request, response
from edge.local_api.listening import Door, Tell, loopback_listener, unix_listener

MAX_CONNECTIONS = 16
IDLE_S = 60.0
DRAIN_S = 5.0
LARGE_BYTES = 64 << 10  # bodies above this are in memory one at a time, of all connections

Answering = Callable[[Request], Answer]


class Server:
    """Serves while its context is entered.

    Args:
        answer: Answers one request; it does not raise.
        path: Of the Unix socket, which its owner and group may use; None for none.
        port: On loopback; 0 for any that is free, None for none.
        tell: Told of an address that cannot be had, and why; and, with None, once it is had after all.

    Attributes:
        port: The port that was taken; None for none.
    """

    def __init__(self, answer: Answering, path: Path | None, port: int | None, tell: Tell = lambda *_: None) -> None:
        self._answer = answer
        self._path = path
        self.port = port
        self._tell = tell
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._large = threading.Lock()
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._stack = ExitStack()

    def __enter__(self) -> Server:
        """Begin to listen. An address that cannot be had is tried again, and holds up nothing else."""
        with ExitStack() as stack:
            if (path := self._path) is not None:
                stack.enter_context(Door("api.socket", lambda: unix_listener(path), self._accept, self._tell))
            if (port := self.port) is not None:
                stack.enter_context(Door("api.port", lambda: self._loopback_listener(port), self._accept, self._tell))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more requests, and let those under way be answered."""
        self._stack.close()
        with self._changed:
            self._shut(socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._open, DRAIN_S)
            self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        for peer in self._open:
            with suppress(OSError):  # the app was faster
                peer.shutdown(how)

    def _loopback_listener(self, port: int) -> socket.socket:
        listener = loopback_listener(port)
        self.port = listener.getsockname()[1]
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            if not self._room.acquire(blocking=False):
                _refuse(peer)
                continue
            with self._changed:
                self._open.add(peer)
            threading.Thread(target=self._converse, args=(peer,), name="api-peer", daemon=True).start()

    def _converse(self, peer: socket.socket) -> None:
        try:
            with peer:
                if peer.family == socket.AF_INET:
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                patience, place = _Patience(peer), _Place(self._large)
                connection = Connection(patience.receive, peer.sendall, place.take)
                again = True
                while again:
                    patience.begin()
                    with place:
                        again = self._exchange(connection, peer)
        except OSError:
            pass  # the app went away, or was silent for long
        finally:
            with self._changed:
                self._open.discard(peer)
                self._changed.notify_all()
            self._room.release()

    def _exchange(self, connection: Connection, peer: socket.socket) -> bool:
        """Answer one request; whether another may come."""
        try:
            request = connection.next()
        except HttpError as error:
            peer.sendall(response(refusal(error), keep_alive=not error.closes))
            return not error.closes
        if request is None:
            return False
        peer.sendall(response(self._answer(request), keep_alive=request.keep_alive))
        return request.keep_alive


class _Place:
    """That of one connection among those with a large body; given back when its context ends.

    Args:
        lock: Of all connections.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._taken = False

    def take(self, size: int) -> None:
        """Wait for the place, if the body needs it."""
        if size <= LARGE_BYTES:
            return
        self._taken = self._lock.acquire(timeout=IDLE_S)
        if not self._taken:
            detail = "other large bodies are being read"
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, closes=True)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._taken:
            self._taken = False
            self._lock.release()


class _Patience:
    """Receives; a peer may be idle for `IDLE_S`, and a request that it has begun takes no longer than that either."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self.begin()

    def begin(self) -> None:
        """Wait for another request."""
        self._until_s: float | None = None
        self._peer.settimeout(IDLE_S)

    def receive(self, size: int) -> bytes:
        """As `socket.socket.recv`; raises TimeoutError, an OSError."""
        if self._until_s is not None:
            if (left_s := self._until_s - time.monotonic()) <= 0:
                raise TimeoutError("the request is not whole yet")
            self._peer.settimeout(left_s)
        piece = self._peer.recv(size)
        if self._until_s is None:
            self._until_s = time.monotonic() + IDLE_S
        return piece


def _refuse(peer: socket.socket) -> None:
    with peer:
        busy = problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", f"{MAX_CONNECTIONS} connections are open already")
        try:
            peer.settimeout(1.0)
            peer.sendall(response(busy, keep_alive=False))
        except OSError:
            pass
