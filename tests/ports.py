"""Ports that a test may listen on, or leave unused: nobody else is given them while this process lives.

A port that the kernel chooses may be given to another process, or to an outgoing connection, between its choice and its
use. So these lie below what the kernel chooses from, and each process holds a block of them by listening on its first.
"""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path

_FIRST, _END = 10_000, 32_768
_BLOCK = 100
_LOOPBACK = "127.0.0.1"


def free_port(count: int = 1) -> int:
    """The first of so many ports in a row on which nobody listens."""
    return _block().take(count)


class _Block:
    """Ports of this process, given out one after the other and then again."""

    def __init__(self, guard: socket.socket) -> None:
        self._guard = guard  # open as long as the process, or another would take the block
        self._ports = range(guard.getsockname()[1] + 1, guard.getsockname()[1] + _BLOCK)
        self._next = self._ports.start

    def take(self, count: int) -> int:
        """So many in a row that are free."""
        for _ in self._ports:
            if self._next + count > self._ports.stop:
                self._next = self._ports.start
            first, self._next = self._next, self._next + count
            if all(map(_is_free, range(first, first + count))):
                return first
        raise RuntimeError(f"somebody listens on each of {self._ports}")


@cache
def _block() -> _Block:
    for first in range(_FIRST, _end() - _BLOCK, _BLOCK):
        guard = socket.socket()
        try:
            guard.bind((_LOOPBACK, first))
            guard.listen()
        except OSError:
            guard.close()
        else:
            return _Block(guard)
    raise RuntimeError(f"no {_BLOCK} ports from {_FIRST} on are left")


def _end() -> int:
    """Before the first port that the kernel itself chooses."""
    chosen = Path("/proc/sys/net/ipv4/ip_local_port_range")
    return min(_END, int(chosen.read_text().split()[0])) if chosen.exists() else _END


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that are closing do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
        return True
