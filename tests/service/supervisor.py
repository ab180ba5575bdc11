"""A supervisor to be told: the far end of a notify socket, as systemd's is."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 60.0


class Listener:
    """Hears what a service tells.

    Attributes:
        address: For `NOTIFY_SOCKET`.
    """

    def __init__(self, listening: socket.socket, address: str) -> None:
        self.address = address
        self._socket = listening

    def hear(self, within_s: float = WAIT_S) -> dict[str, str]:
        """The next message.

        Raises:
            TimeoutError: If none comes.
        """
        self._socket.settimeout(within_s)
        return dict(line.split("=", 1) for line in self._socket.recv(65536).decode().splitlines())

    def until(self, wanted: Callable[[dict[str, str]], bool]) -> list[dict[str, str]]:
        """Every message up to and with the first that is wanted."""
        heard = [self.hear()]
        while not wanted(heard[-1]):
            heard.append(self.hear())
        return heard

    def drain(self) -> int:
        """How many messages wait to be heard."""
        count = 0
        self._socket.setblocking(False)
        try:
            while self._socket.recv(65536):
                count += 1
        except BlockingIOError:
            return count
        return count


@contextmanager
def listening(path: Path | str) -> Iterator[Listener]:
    """A supervisor at a path, or at an abstract name after an ``@``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0{path[1:]}" if str(path).startswith("@") else str(path))  # type: ignore[index]
        yield Listener(made, str(path))
