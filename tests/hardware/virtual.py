"""A serial port and a clock that exist only in a test: meters run their own code over it, at any speed, to the byte."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

_METERS = ("um", "tc66", "scpi", "csvline", "ppk2", "port", "autodetect")


class Wire:
    """A clock and an instrument at the far end of a port.

    Args:
        answer: Takes the bytes that were written and the time; gives the bytes to send and seconds until they arrive.
        speak: Gives the bytes that are sent unasked within a stretch of time; None for one that only answers.
    """

    def __init__(
        self,
        answer: Callable[[bytes, float], tuple[bytes, float]],
        speak: Callable[[float, float], bytes] | None = None,
        tick_s: float = 0.02,
    ) -> None:
        self.now_s = 100.0
        self.end_s = float("inf")
        self.answer = answer
        self.is_broken: Callable[[float], bool] = lambda now_s: False
        self._speak = speak
        self._tick_s = tick_s
        self._spoken_s = self.now_s
        self._coming: deque[tuple[float, bytes]] = deque()
        self.arrived = bytearray()

    def write(self, data: bytes) -> None:
        """Something was asked."""
        reply, delay_s = self.answer(data, self.now_s)
        if reply:
            self._coming.append((self.now_s + delay_s, reply))

    def advance(self, until_s: float, *, wanted: bool) -> None:
        """Let time pass to a moment, or where bytes are wanted only until some have arrived."""
        while self.now_s < until_s and not (wanted and self.arrived):
            at_s = min(
                [until_s, self._spoken_s + self._tick_s if self._speak else until_s, *[t for t, _ in self._coming]]
            )
            self.now_s = max(self.now_s, at_s)
            if self._speak and self.now_s >= self._spoken_s + self._tick_s:
                self.arrived += self._speak(self._spoken_s, self.now_s)
                self._spoken_s = self.now_s
            for item in [item for item in self._coming if item[0] <= self.now_s]:
                self._coming.remove(item)
                self.arrived += item[1]


class VirtualTime:
    """What a meter's module knows as ``time``."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def monotonic(self) -> float:
        """The wire's clock."""
        return self._wire.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._wire.advance(self._wire.now_s + seconds, wanted=False)


class VirtualSerial:
    """What pyserial's ``Serial`` does, as far as `hardware.meters.port.Port` asks it."""

    wire: Wire

    def __init__(self, path: str, baud: int, timeout: float, write_timeout: float, exclusive: bool) -> None:
        self.timeout = timeout
        self._check()
        self.wire.arrived.clear()

    @property
    def in_waiting(self) -> int:
        """Bytes that have arrived."""
        return len(self.wire.arrived)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._check()
        self.wire.write(data)

    def read(self, count: int) -> bytes:
        """So many bytes, or what has come until the time is out."""
        self._check()
        if not self.wire.arrived:
            self.wire.advance(self.wire.now_s + self.timeout, wanted=True)
        self._check()
        data = bytes(self.wire.arrived[:count])
        del self.wire.arrived[:count]
        return data

    def reset_input_buffer(self) -> None:
        """Forget what has arrived."""
        self._check()
        self.wire.arrived.clear()

    def close(self) -> None:
        """Nothing is held."""

    def _check(self) -> None:
        if self.wire.now_s >= self.wire.end_s or self.wire.is_broken(self.wire.now_s):
            raise OSError(5, "Input/output error")


def plug_in(monkeypatch: pytest.MonkeyPatch, wire: Wire) -> None:
    """Put the wire and its clock in the place of pyserial and time, for every kind of meter."""
    monkeypatch.setattr(VirtualSerial, "wire", wire, raising=False)
    monkeypatch.setattr("serial.Serial", VirtualSerial)
    for name in _METERS:
        monkeypatch.setattr(f"hardware.meters.{name}.time", VirtualTime(wire))
