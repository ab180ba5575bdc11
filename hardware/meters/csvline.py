"""Any microcontroller that prints lines of comma-separated numbers under a header that names columns and units.

Such as an INA219 or INA226 behind ``t_ms,bus_V,current_mA,power_mW``. The header may come again at any time.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from hardware.errors import MeterError
from hardware.meters.meter import Meter, Reading
from hardware.meters.port import Port
from hardware.sensor import Kind, Scope, Source

NAME = "csv"
BAUD = 115200
_SILENCE_S = 3.0
_MOST_LINE_BYTES = 512
_MOST_DRIFT = 0.01  # of a microcontroller's clock against ours
_MOST_APART, _LEAST_W = 0.5, 0.05  # power against volts times amperes, which may be of another moment
_COLUMN = re.compile(r"(\w*?)_?(m|u|k)?(s|V|A|W)")
_SCALES = {"u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}


@dataclass(frozen=True)
class Columns:
    """Place and scale of the columns that matter, by unit: ``s``, ``V``, ``A`` and ``W``."""

    places: dict[str, tuple[int, float]]
    width: int

    def parse(self, line: str) -> dict[str, float]:
        """Values by unit.

        Raises:
            MeterError: If the line has another number of fields, one of them is no finite number, or the power is
                not about volts times amperes.
        """
        fields = line.split(",")
        if len(fields) != self.width:
            raise MeterError(NAME, f"{len(fields)} fields where the header names {self.width}: {line[:60]!r}")
        try:
            values = {unit: float(fields[place]) * scale for unit, (place, scale) in self.places.items()}
        except ValueError as error:
            raise MeterError(NAME, f"not numbers: {line[:60]!r}") from error
        if not all(abs(value) < 1e12 for value in values.values()):
            raise MeterError(NAME, f"not finite: {line[:60]!r}")
        if not _agrees(values):
            raise MeterError(NAME, f"watts are not volts times amperes: {line[:60]!r}")
        return values


def parse_header(line: str) -> Columns | None:
    """The columns that a header line names, or None if it is no header of a power meter."""
    names = [name.strip() for name in line.split(",")]
    if len(names) < 2 or any(re.fullmatch(r"[+-]?[\d.eE+-]+", name) for name in names):
        return None
    places: dict[str, tuple[int, float]] = {}
    for place, name in enumerate(names):
        found = _COLUMN.fullmatch(name)
        if found and found[3] not in places:
            places[found[3]] = place, _SCALES[found[2] or ""]
    return Columns(places, len(names)) if "W" in places or {"V", "A"} <= set(places) else None


class CsvMeter(Meter):
    """A microcontroller on an open port.

    Args:
        port: The port.
        header: The header line, for one that printed it before anyone listened.
    """

    still_s = 10.0
    source = Source(NAME, Kind.MEASURED, Scope.BOARD_INPUT, 0.02, "microcontroller with a current sensor")

    def __init__(self, port: Port, header: str | None = None) -> None:
        super().__init__(port)
        self._buffer = b""
        self._columns = parse_header(header) if header else None
        if header and self._columns is None:
            raise MeterError(NAME, f"header {header[:60]!r} names no power, nor volts and amperes")
        # Whoever was told the header begins to listen in the middle of a line, and half a number is another number.
        self._is_cut = header is not None
        self._newest_s = 0.0
        self._last_device_s: float | None = None
        self._offset_s = self._tied_s = float("inf")

    def read(self) -> list[Reading]:
        """All whole lines that have arrived; see `Meter.read`."""
        deadline_s = time.monotonic() + _SILENCE_S
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                what = "no reading" if self._columns else "no header line, and so no reading,"
                raise MeterError(NAME, f"{what} within {_SILENCE_S:g} s")
            self._buffer += self._port.read(left_s)
            *lines, self._buffer = self._buffer.split(b"\n")
            if len(self._buffer) > _MOST_LINE_BYTES:
                self._buffer, self._is_cut = b"", True
                self.lost += 1
            if self._is_cut and lines:
                lines, self._is_cut = lines[1:], False
            rows = [row for line in lines if (row := self._take(line)) is not None]
            if rows:
                rows = self._since_restart(rows)
                return [_reading(at_s, row) for at_s, row in zip(self._times(rows), rows, strict=True)]

    def _take(self, raw: bytes) -> dict[str, float] | None:
        """Values by unit of a line that is whole and new."""
        line = raw.decode("ascii", "replace").strip()
        columns = parse_header(line)
        if columns is not None:
            self._columns = columns
            return None
        if self._columns is None or not line:
            return None
        try:
            values = self._columns.parse(line)
        except MeterError:
            self.lost += 1
            return None
        device_s = values.get("s")
        if device_s is not None and device_s == self._last_device_s:
            self.repeated += 1
            return None
        self._last_device_s = device_s
        return values

    def _times(self, rows: list[dict[str, float]]) -> list[float]:
        """When lines were measured: by the device's clock, tied to ours by the line that came through fastest."""
        now_s = time.monotonic()
        if any("s" not in row for row in rows):
            return [now_s + 1e-6 * place for place in range(len(rows))]
        # Its clock may run slower than ours, and the tie must not age with every hour that it does.
        slack_s = _MOST_DRIFT * max(now_s - self._tied_s, 0.0)
        self._offset_s, self._tied_s = min(self._offset_s + slack_s, now_s - rows[-1]["s"]), now_s
        return [self._offset_s + row["s"] for row in rows]

    def _since_restart(self, rows: list[dict[str, float]]) -> list[dict[str, float]]:
        """The rows since the device's clock last began anew, if it did: those before have another tie to ours."""
        for place in range(len(rows) - 1, -1, -1):
            if rows[place].get("s", 0.0) < (rows[place - 1].get("s", 0.0) if place else self._newest_s):
                self.lost += place
                self._offset_s = float("inf")
                rows = rows[place:]
                break
        self._newest_s = rows[-1].get("s", 0.0)
        return rows


def _agrees(values: dict[str, float]) -> bool:
    """Whether the power is about volts times amperes, where all three are there: a lost digit makes it another."""
    if not {"V", "A", "W"} <= set(values):
        return True
    product, watts = abs(values["V"] * values["A"]), abs(values["W"])
    return abs(product - watts) <= _MOST_APART * max(product, watts) + _LEAST_W


def _reading(at_s: float, values: dict[str, float]) -> Reading:
    volts, amps = values.get("V"), values.get("A")
    watts = values["W"] if "W" in values else (volts or 0.0) * (amps or 0.0)
    return Reading(at_s, watts, volts, amps)
