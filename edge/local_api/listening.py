"""An address that the local API listens on, had at once or as soon as it can be: being without one stops nothing else.

A port may be another program's, a socket's folder may not be there yet. What a process that was killed left behind is
in nobody's way: its Unix socket is replaced, its port taken over.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
RETRY_S = 5.0
_BACKLOG = 16

Listen = Callable[[], socket.socket]
Serve = Callable[[socket.socket], None]
Tell = Callable[[str, "str | None"], None]


class Door:
    """Listens, on a thread of its own, while its context is entered.

    Args:
        name: Of the address, for whoever is told.
        listen: Opens the listener; raises OSError where it cannot.
        serve: Takes what comes, until the listener is shut down.
        tell: Told the name, and why the address cannot be had; and, with None, once it is had after all.
    """

    def __init__(self, name: str, listen: Listen, serve: Serve, tell: Tell) -> None:
        self._name = name
        self._listen = listen
        self._serve = serve
        self._tell = tell
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="api", daemon=True)

    def __enter__(self) -> Door:
        try:
            self._listener = self._listen()
        except OSError as error:
            self._tell(self._name, str(error))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closing.set()
        if self._listener is not None:
            if self._listener.family == socket.AF_UNIX:
                Path(self._listener.getsockname()).unlink(missing_ok=True)
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        if self._listener is not None:
            self._listener.close()

    def _keep(self) -> None:
        while self._listener is None:
            if self._closing.wait(RETRY_S):
                return
            with self._lock, suppress(OSError):
                self._listener = None if self._closing.is_set() else self._listen()
            if self._listener is not None:
                self._tell(self._name, None)
        self._serve(self._listener)


def unix_listener(path: Path) -> socket.socket:
    """A Unix socket that its owner and group may use, in place of one that was left behind.

    Raises:
        OSError: If it cannot be had; its message says of which path and why.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink(missing_ok=True)  # of a process that was killed; the store's lock says that no other one lives
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(f"{path}: {error.strerror or error}") from error
    return listener


def loopback_listener(port: int) -> socket.socket:
    """A port that only programs of this machine reach; 0 for any that is free.

    Raises:
        OSError: As `unix_listener`.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a process that was killed just now
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(f"{LOOPBACK}:{port}: {error.strerror or error}") from error
    return listener
