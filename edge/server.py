"""The local API's sockets: a Unix socket, and loopback where the owner asks for it; a thread for each connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from edge.api import problem
from edge.errors import ConfigError
from edge.http_wire import Connection, HttpError, Request, response

MAX_CONNECTIONS = 16
IDLE_S = 60.0
DRAIN_S = 5.0
LOOPBACK = "127.0.0.1"
_BACKLOG = 16

Answer = Callable[[Request], tuple[HTTPStatus, Any]]


class Server:
    """Serves while its context is entered.

    Args:
        answer: Answers one request; it does not raise.
        path: Of the Unix socket, which its owner and group may use; None for none.
        port: On loopback; 0 for any that is free, None for none.

    Attributes:
        port: The port that was taken; None for none.
    """

    def __init__(self, answer: Answer, path: Path | None, port: int | None) -> None:
        self._answer = answer
        self._path = path
        self.port = port
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._stack = ExitStack()

    def __enter__(self) -> Server:
        """Begin to listen.

        Raises:
            ConfigError: If an address cannot be used.
        """
        with ExitStack() as stack:
            if self._path is not None:
                stack.enter_context(self._listening(_unix_listener(self._path)))
                stack.callback(self._path.unlink, missing_ok=True)
            if self.port is not None:
                listener = _loopback_listener(self.port)
                self.port = listener.getsockname()[1]
                stack.enter_context(self._listening(listener))
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

    @contextmanager
    def _listening(self, listener: socket.socket) -> Iterator[None]:
        thread = threading.Thread(target=self._accept, args=(listener,), name="api", daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
            thread.join()
            listener.close()

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
                peer.settimeout(IDLE_S)
                if peer.family == socket.AF_INET:
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(peer.recv, peer.sendall)
                while self._exchange(connection, peer):
                    pass
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
            peer.sendall(response(error.status, problem(error.code, str(error)), keep_alive=not error.closes))
            return not error.closes
        if request is None:
            return False
        status, value = self._answer(request)
        peer.sendall(response(status, value, keep_alive=request.keep_alive))
        return request.keep_alive


def _refuse(peer: socket.socket) -> None:
    with peer:
        detail = f"{MAX_CONNECTIONS} connections are open already"
        try:
            peer.settimeout(1.0)
            peer.sendall(response(HTTPStatus.SERVICE_UNAVAILABLE, problem("busy", detail), keep_alive=False))
        except OSError:
            pass


def _unix_listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)  # of a process that was killed; the store's lock says that no other one lives
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"configuration: api.socket {path}: {error.strerror or error}") from error
    return listener


def _loopback_listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"configuration: api.port {port}: {error.strerror or error}") from error
    return listener
