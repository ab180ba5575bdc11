"""The meters of the fault matrix: instruments that measure a known power, and what each fault does to their bytes."""

from __future__ import annotations

import math
import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from hardware.meters import ppk2, tc66, um
from hardware.meters.autodetect import MeterOptions, open_meter
from hardware.meters.meter import Meter
from hardware.meters.stream import MeterStream
from tests.hardware.pseudo import PPK2_METADATA, tc66_answer, um_frame
from tests.hardware.virtual import Wire, plug_in

BEGIN_S = 100.0
VOLTS = 5.0
_UM_MODELS = {"UM24C": 0x0963, "UM25C": 0x09C9, "UM34C": 0x0D4C}
_IDENTITIES = {
    "OWON": ("OWON,SPE3103,2109123,FV:V1.8.0", "MEAS:POW?"),
    "EA": ("Elektro-Automatik GmbH, EA-PS 2042-06 B", "MEAS:POW?"),
    "Chroma": ("Chroma,62012P-80-60,03.30.1,05648", "MEAS:POW?"),
    "B&K 9130": ("B&K Precision,9130,602193010677710001,V1.69", ":MEAS:POWER?"),
    "EEZ": ("Envox,EEZ H24005,0000000,M4", ":MEAS:POWER?"),
    "Rigol": ("RIGOL TECHNOLOGIES,DP832,DP8C1234,00.01.14", ":MEAS:POWE?"),
    "Keysight": ("Keysight Technologies,E36312A,MY5,1.0", None),
    "unknown dialect": ("Someone,Unknown 1,2,3", None),
}


def amps(at_s: Any) -> Any:
    """The current that flows at a time, or at each of an array: slow and fast waves, and a step."""
    step = 0.15 * (at_s % 9 > 4)
    return 0.55 + step + 0.12 * np.sin(2 * math.pi * at_s / 7.3) + 0.04 * np.sin(2 * math.pi * at_s / 1.37)


def truth_mj(begin_s: float, end_s: float) -> float:
    """The energy that flowed."""
    grid = np.linspace(begin_s, end_s, 20_001)
    power = VOLTS * amps(grid)
    return float(((power[1:] + power[:-1]) / 2).mean()) * (end_s - begin_s) * 1000


@dataclass
class Instrument:
    """One meter and its fault.

    Attributes:
        source: Its row of the matrix.
        fault: Its column; empty for none.
        span_s: How long it is watched.
        fault_begin_s: When the fault begins.
        fault_end_s: When it ends; a hanging meter and one that is pulled out for good never recover.
    """

    source: str
    fault: str
    span_s: float
    fault_begin_s: float
    fault_end_s: float
    rng: random.Random = field(default_factory=lambda: random.Random(4))
    _spoken: int = 0
    _speaks: bool = False

    def measured_s(self, now_s: float) -> float:
        """The moment that the display shows: a stale one stands still."""
        shown_s = math.floor(now_s * 2) / 2 if self.source in _UM_MODELS else now_s  # these renew twice a second
        return self.fault_begin_s if self.fault == "stale frame" and self.is_faulty(now_s) else shown_s

    def is_faulty(self, now_s: float) -> bool:
        """Whether the fault is there."""
        return self.fault_begin_s <= now_s < self.fault_end_s

    def answer(self, asked: bytes, now_s: float) -> tuple[bytes, float]:
        """What comes back, spoilt while the fault is there, and when."""
        reply = self._reply(asked, self.measured_s(now_s))
        return self._spoil(reply) if self.is_faulty(now_s) else reply, 0.01

    def speech(self, begin_s: float, end_s: float) -> bytes:
        """What a meter that speaks by itself has sent in a stretch of time."""
        said = self._samples(begin_s, end_s) if self.source == "PPK2" else self._line(end_s)
        if not self.is_faulty(end_s):
            return said
        if self.fault == "counter gap" and self.rng.random() < 0.2:
            return said[4 * self.rng.randint(1, 63) * 7 :]
        return self._spoil(said)

    def _spoil(self, data: bytes) -> bytes:
        if not data or self.fault not in ("truncation", "stray bytes") or self.rng.random() < 0.3:
            return data
        place = self.rng.randrange(len(data))
        if self.fault == "truncation":
            tail = b"\n" if data.endswith(b"\n") and self.rng.random() < 0.5 else b""
            return data[:place] + tail
        stray = self.rng.randbytes(self.rng.randint(1, 5))
        return stray + data if self.rng.random() < 0.5 else data[:place] + stray + data[place:]

    def _reply(self, asked: bytes, at_s: float) -> bytes:
        current = amps(at_s)
        if self.source in _UM_MODELS:
            return um_frame(_UM_MODELS[self.source], VOLTS, current) if um.ASK in asked else b""
        if self.source == "TC66C":
            return tc66_answer(VOLTS, current) if tc66.ASK in asked else b""
        if self.source == "PPK2":
            self._speaks = asked.endswith(b"\x06") or (self._speaks and not asked.endswith(b"\x07"))
            return PPK2_METADATA.encode() if b"\x19" in asked else b""
        if self.source.startswith("SCPI"):
            identity, power = _IDENTITIES[self.source.removeprefix("SCPI, ")]
            replies = {"*IDN?": identity, "MEAS:VOLT?": f"{VOLTS:.3f}", "MEAS:CURR?": f"{current:.4f}"}
            replies |= {power: f"{VOLTS * current:.4f} W"} if power else {}
            words = asked.decode().strip()
            return f"{replies[words]}\n".encode() if words in replies else b""
        return b""

    def _line(self, now_s: float) -> bytes:
        at_s = self.measured_s(now_s)
        current = amps(at_s)
        if self.source == "CSV without time":
            return f"{VOLTS:.3f},{current * 1000:.2f},{VOLTS * current * 1000:.1f}\r\n".encode()
        shown_ms = (at_s - BEGIN_S) * 1000 + 4_294_960_000
        if self.fault == "wraparound":  # of a 32-bit count of milliseconds
            shown_ms %= 1 << 32
        return f"{shown_ms:.0f},{VOLTS:.3f},{current * 1000:.2f},{VOLTS * current * 1000:.1f}\r\n".encode()

    def _samples(self, begin_s: float, end_s: float) -> bytes:
        first, self._spoken = self._spoken, self._spoken + round((end_s - begin_s) * ppk2.SAMPLE_HZ)
        if not self._speaks:
            return b""
        count = self._spoken - first
        if self.fault == "stale frame" and self.is_faulty(end_s):
            begin_s = end_s = self.fault_begin_s  # the converter hangs, its counter goes on
        currents = np.interp(np.arange(count), [0, count], [amps(begin_s), amps(end_s)])
        adc = np.interp(currents, _TABLE, np.arange(len(_TABLE))).astype(np.uint32)
        words = adc | np.uint32(4 << 14) | ((np.arange(first, first + count) % 64).astype(np.uint32) << np.uint32(18))
        return words.astype("<u4").tobytes()


_TABLE = ppk2.Modifiers.parse(PPK2_METADATA).amperes(
    np.arange(1 << 14, dtype=np.uint32) | np.uint32(4 << 14), VOLTS * 1000
)


def instrument(source: str, fault: str) -> Instrument:
    """The meter of a row with the fault of a column."""
    span_s = {"PPK2": 4.0, "TC66C": 20.0}.get(source, 60.0)
    begin_s, end_s = BEGIN_S + 0.3 * span_s, BEGIN_S + 0.45 * span_s
    for_good = fault in ("stale frame", "vanished")
    return Instrument(source, fault, span_s, begin_s, float("inf") if for_good else end_s)


def stream(monkeypatch: pytest.MonkeyPatch, far: Instrument) -> MeterStream:
    """The meter's stream after all of its time has passed; nothing of it waits for real time."""
    speaks = far.source == "PPK2" or far.source.startswith("CSV")
    wire = Wire(far.answer, far.speech if speaks else None)
    wire.now_s = wire._spoken_s = BEGIN_S
    wire.end_s = BEGIN_S + far.span_s
    wire.is_broken = _breakage(far)
    plug_in(monkeypatch, wire)
    done = threading.Event()

    def connect() -> Meter:
        if wire.now_s >= wire.end_s:
            done.set()
        wire.advance(min(wire.now_s + 0.2, wire.end_s), wanted=False)
        return open_meter("/dev/ttyUSB0", _kind(far.source), _options(far.source))

    made = MeterStream(connect, retry_s=0.0)
    assert done.wait(60)
    made.close()
    return made


def _breakage(far: Instrument) -> Callable[[float], bool]:
    if far.fault in ("disconnect", "vanished"):
        return far.is_faulty
    if far.fault == "EIO":
        return lambda now_s: far.is_faulty(now_s) and far.rng.random() < 0.1
    return lambda now_s: False


def _kind(source: str) -> str:
    if source in _UM_MODELS:
        return "um"
    return {"TC66C": "tc66c", "PPK2": "ppk2"}.get(source) or re.split(r"\W", source, maxsplit=1)[0].lower()


def _options(source: str) -> MeterOptions:
    time = "t_ms," if source == "CSV with time" else ""
    header = f"{time}bus_V,current_mA,power_mW" if source.startswith("CSV") else None
    return MeterOptions(vdd_mv=round(VOLTS * 1000) if source == "PPK2" else None, csv_header=header)
