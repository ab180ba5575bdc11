"""Nordic's Power Profiler Kit II: 100,000 currents a second, up to 1 A. Its voltage is declared, not measured."""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware.errors import MeterError
from hardware.meters.meter import Meter, Reading
from hardware.meters.port import Port
from hardware.sensor import Kind, Scope, Source

NAME = "ppk2"
BAUD = 115200
USB_IDS = ((0x1915, 0xC00A),)
SAMPLE_HZ = 100_000
_START, _STOP, _LOAD, _VOLTAGE, _MODE, _METADATA = b"\x06", b"\x07", b"\x0c", b"\x0d", b"\x11", b"\x19"
_BLOCK = 1000  # samples averaged into one reading: 10 ms
_RANGES = 5
_COUNTER_MODULUS = 64
_PROOF = 3  # neighbours on each side; shifted bytes look like so many counters in step once in 64^3
_SHORTEST_FEED = 16
_ANSWER_S = 2.0
_SILENCE_S = 1.0
_DEFAULTS = {
    "R": (1031.64, 101.65, 10.15, 0.94, 0.043),
    "GS": (1.0,) * _RANGES,
    "GI": (1.0,) * _RANGES,
    "UG": (1.0,) * _RANGES,
    "O": (0.0,) * _RANGES,
    "S": (0.0,) * _RANGES,
    "I": (0.0,) * _RANGES,
}


@dataclass(frozen=True)
class Modifiers:
    """The kit's own calibration: one value a range."""

    values: dict[str, NDArray[np.float64]]

    @classmethod
    def parse(cls, text: str) -> Modifiers:
        """From the metadata; what is missing, zero or not a number takes its default."""
        found = {name: np.array(default) for name, default in _DEFAULTS.items()}
        for name, place, number in re.findall(r"^(R|GS|GI|UG|O|S|I)([0-4]):\s*([-+\d.eE]+)\s*$", text, re.M):
            try:
                value = float(number)
            except ValueError:
                continue
            if value:
                found[name][int(place)] = value
        return cls(found)

    def amperes(self, words: NDArray[np.uint32], vdd_mv: float) -> NDArray[np.float64]:
        """Currents of samples."""
        adc = (words & 0x3FFF).astype(np.float64) * 4
        r = np.minimum(words >> 14 & 7, _RANGES - 1)
        v = {name: values[r] for name, values in self.values.items()}
        x = (adc - v["O"]) * (1.8 / 163840) / v["R"]
        amps: NDArray[np.float64] = v["UG"] * (x * (v["GS"] * x + v["GI"]) + v["S"] * vdd_mv / 1000 + v["I"])
        return amps


class Samples:
    """Bytes to whole samples, with losses counted by the samples' own counter.

    A lost byte shifts all that follow, and only the counters can tell. A sample is used where its counter and those of
    its neighbours on both sides go on without a break, so a shifted stretch is lost rather than taken for currents.

    Attributes:
        lost: Samples that are missing: those seen and not used, and those that the counter misses, modulo 64.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._rest = b""  # neighbours of the next sample to be judged, and what is not a whole sample yet
        self._last: int | None = None  # counter of the last sample used
        self._since = 0  # samples seen since then

    def feed(self, data: bytes) -> NDArray[np.uint32]:
        """Samples that can be judged by now; the newest few wait for their neighbours."""
        data = self._rest + data
        if len(data) < 4 * _SHORTEST_FEED:
            self._rest = data
            return np.empty(0, np.uint32)
        start = max(range(4), key=lambda shift: (_steps(_words(data, shift)) == 1).mean() - 1e-6 * shift)
        words = _words(data, start)
        self._rest = data[start + 4 * (len(words) - 2 * _PROOF) :]
        broken = np.concatenate(([0], np.cumsum(_steps(words) != 1)))
        judged = words[_PROOF:-_PROOF]
        used: NDArray[np.bool_] = broken[2 * _PROOF :] == broken[: -2 * _PROOF]
        self._count(judged, used)
        return judged[used]

    def _count(self, judged: NDArray[np.uint32], used: NDArray[np.bool_]) -> None:
        places = np.flatnonzero(used)
        if not len(places):
            self.lost += len(judged)
            self._since += len(judged)
            return
        counters = _counter(judged)
        last, at = (counters[places[0]], -places[0]) if self._last is None else (self._last, self._since + 1)
        missed = (counters[places[-1]] - last - (at + places[-1])) % _COUNTER_MODULUS
        self.lost += int((~used).sum() + missed)
        self._last, self._since = int(counters[places[-1]]), len(judged) - 1 - int(places[-1])


def _words(data: bytes, start: int) -> NDArray[np.uint32]:
    return np.frombuffer(data, "<u4", (len(data) - start) // 4, start)


def _counter(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    return (words >> 18 & 0x3F).astype(np.int64)


def _steps(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """How far each word's counter is from that of the word before, modulo 64."""
    return np.diff(_counter(words)) % _COUNTER_MODULUS


class Ppk2Meter(Meter):
    """A kit on an open port.

    Args:
        port: The port.
        vdd_mv: The supply in millivolts, 800 to 5000: what it is set to as a source, or what is declared as an ammeter.
        source: Whether the kit supplies the board, or measures what another supply gives.
    """

    latency_s = 0.01
    still_s = 1.0

    def __init__(self, port: Port, vdd_mv: int, *, source: bool = False) -> None:
        super().__init__(port)
        if not 800 <= vdd_mv <= 5000:
            raise MeterError(NAME, f"supply of {vdd_mv} mV: the kit takes 800 to 5000")
        self._vdd_mv = vdd_mv
        note = f"current times a declared {vdd_mv} mV; no more than 1 A"
        self.source = Source(NAME, Kind.MEASURED, Scope.BOARD_INPUT, 0.02, note)
        self._samples = Samples()
        self._pending = np.empty(0, np.uint32)
        self._modifiers = Modifiers.parse(self._metadata())
        port.write(_MODE + (b"\x02" if source else b"\x01"))
        port.write(_VOLTAGE + struct.pack(">H", vdd_mv))
        port.write(_LOAD + b"\x01")
        port.discard()
        port.write(_START)

    def read(self) -> list[Reading]:
        """Means over 10 ms each; see `Meter.read`."""
        while len(self._pending) < _BLOCK:
            data = self._port.read(_SILENCE_S)
            if not data:
                raise MeterError(NAME, f"no sample within {_SILENCE_S:g} s")
            self._pending = np.concatenate((self._pending, self._samples.feed(data)))
            self.lost = self._samples.lost
        now_s = time.monotonic()
        blocks = len(self._pending) // _BLOCK
        amps = self._modifiers.amperes(self._pending[: blocks * _BLOCK], self._vdd_mv).reshape(blocks, _BLOCK)
        behind = len(self._pending) - _BLOCK * (np.arange(blocks) + 0.5)
        self._pending = self._pending[blocks * _BLOCK :]
        volts = self._vdd_mv / 1000
        rows = zip(now_s - behind / SAMPLE_HZ, amps.mean(axis=1), strict=True)
        return [Reading(float(at_s), float(mean) * volts, volts, float(mean)) for at_s, mean in rows]

    def close(self) -> None:
        """Stop the samples and give the port back."""
        try:
            self._port.write(_STOP)
        except MeterError:
            pass  # it is gone, and has stopped then
        finally:
            super().close()

    def _metadata(self) -> str:
        self._port.write(_STOP)
        self._port.discard()
        self._port.write(_METADATA)
        data = self._port.read_until(lambda data: b"END" in data, _ANSWER_S, "PPK2 metadata")
        return data.split(b"END")[0].decode("ascii", "replace")
