"""The UM24C, UM25C and UM34C USB meters: ask with one byte, get a frame of 130."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

from hardware.errors import MeterError
from hardware.meters.meter import Meter, Reading
from hardware.meters.port import Port
from hardware.sensor import Kind, Scope, Source

NAME = "um"
BAUD = 9600
ASK = b"\xf0"
FRAME_BYTES = 130
_TAIL = b"\xff\xf1"  # of a UM24C and UM25C; the UM34C has a checksum there whose rule is not known
_ANSWER_S = 2.0
_POLL_S = 0.2
_SETTLE_S = 1.0  # the meter renews itself about twice a second: after this long, an equal frame is a new one
_STUCK_S = 10.0


@dataclass(frozen=True)
class _Model:
    name: str
    volt_divisor: int
    amp_divisor: int


_MODELS = {
    0x0963: _Model("UM24C", 100, 1000),
    0x09C9: _Model("UM25C", 1000, 10000),
    0x0D4C: _Model("UM34C", 100, 1000),
}
_HEADS = tuple(struct.pack(">H", number) for number in _MODELS)


def find_frame(data: bytes) -> bytes | None:
    """The first whole frame in the bytes, also after stray ones (the meter sends an FF when it is switched on)."""
    for start in range(len(data) - FRAME_BYTES + 1):
        frame = data[start : start + FRAME_BYTES]
        if frame[:2] in _HEADS and _is_plausible(frame):
            return frame
    return None


def parse(frame: bytes) -> tuple[str, float, float, float]:
    """Model, volts, amperes and watts of a frame."""
    number, volts, amps, watts = struct.unpack_from(">HHHI", frame)
    model = _MODELS[number]
    return model.name, volts / model.volt_divisor, amps / model.amp_divisor, watts / 1000


def _is_plausible(frame: bytes) -> bool:
    """Whether volts times amperes is the power that the frame states, and the tail is right where its rule is known."""
    model, volts, amps, watts = parse(frame)
    step = volts / _MODELS[struct.unpack_from(">H", frame)[0]].amp_divisor + amps * 0.01 + 0.002
    agrees = abs(volts * amps - watts) <= max(0.02 * watts, 2 * step)
    return agrees and volts < 30 and (model == "UM34C" or frame[-2:] == _TAIL)


class UmMeter(Meter):
    """A meter of the family on an open port at 9600 baud."""

    latency_s = 0.5
    still_s = _STUCK_S

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        self._last = b""
        self._last_new_s = -float("inf")
        model = parse(self._ask())[0]
        note = f"{model} inline USB meter; renews itself about twice a second"
        self.source = Source(f"{NAME}-{model.lower()}", Kind.MEASURED, Scope.BOARD_INPUT, 0.02, note)

    def read(self) -> list[Reading]:
        """The next frame that differs from the last, or that the meter must have renewed; see `Meter.read`."""
        begin_s = time.monotonic()
        while True:
            frame, now_s = self._ask(), time.monotonic()
            if frame != self._last:
                self._last, self._last_new_s = frame, now_s
                break
            if now_s - self._last_new_s > _STUCK_S:
                raise MeterError(self.source.name, f"has sent the same frame for {_STUCK_S:g} s: it hangs")
            if now_s - begin_s > _SETTLE_S:
                break
            self.repeated += 1
            time.sleep(_POLL_S)
        _, volts, amps, watts = parse(frame)
        return [Reading(now_s, watts, volts, amps)]

    def _ask(self) -> bytes:
        self._port.discard()
        self._port.write(ASK)
        try:
            data = self._port.read_until(lambda data: find_frame(data) is not None, _ANSWER_S, "UM frame")
        except MeterError:
            self.lost += 1
            raise
        frame = find_frame(data)
        assert frame is not None
        return frame
