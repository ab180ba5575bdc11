"""A supervisor to be told: the far end of a notify socket, as systemd's is."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 60.0
_UNDER_WAY = 12  # messages that a socket holds, and one at either end


class Listener:
    """Hears what a service tells, as it is told: a socket holds ten messages, and what finds no room is lost.

    Attributes:
        address: For `NOTIFY_SOCKET`.
    """

    def __init__(self, listening: socket.socket, address: str) -> None:
        self.address = address
        self._socket = listening
        self._heard: queue.Queue[dict[str, str]] = queue.Queue()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        while message := self._socket.recv(65536):
            self._heard.put(dict(line.split("=", 1) for line in message.decode().splitlines()))

    def hear(self) -> dict[str, str]:
        """The next message."""
        return self._heard.get(timeout=WAIT_S)

    def until(self, wanted: Callable[[dict[str, str]], bool]) -> list[dict[str, str]]:
        """Every message up to and with the first that is wanted."""
        heard = [self.hear()]
        while not wanted(heard[-1]):
            heard.append(self.hear())
        return heard

    def falls_silent(self, for_s: float) -> bool:
        """Whether no message comes for so long, but for those that are under way."""
        try:
            for _ in range(_UNDER_WAY):
                self._heard.get(timeout=for_s)
        except queue.Empty:
            return True
        return False

    @contextmanager
    def running(self) -> Iterator[Listener]:
        """Listens while the body runs."""
        self._thread.start()
        try:
            yield self
        finally:
            self._socket.shutdown(socket.SHUT_RD)  # wakes the thread
            self._thread.join()


@contextmanager
def listening(path: Path | str) -> Iterator[Listener]:
    """A supervisor at a path, or at an abstract name after an ``@``."""
    address = str(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        with Listener(made, address).running() as listener:
            yield listener


def bell(path: Path) -> socket.socket:
    """A notify socket that nobody reads."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    return made
