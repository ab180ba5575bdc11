"""A stored calibration: a line from what a board's own source says to what a better meter beside it said.

It holds on the unit it was made on and no other: another board of the same kind differs by more than it corrects.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hardware.correction import Correction
from hardware.errors import CalibrationError
from hardware.files import read_text
from hardware.modelled import LinearModel
from hardware.sensor import Scope

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        source: Name of the calibrated source, before any correction.
        unit: The unit it was made on, as `unit_of` gives it.
        board: The board's kind.
        reference: Name of the meter beside it.
        scope: What that meter covered.
        scale: Reference milliwatts for one of the source's; for the model, for full utilisation of all processors.
        offset_mw: Reference milliwatts where the source says zero.
        low: Smallest value of the source that was seen.
        high: Largest one. Beyond these the line is a guess.
        relative_u95: Half-width of the 95% interval, from held-out steps and the reference's own.
        steps: How many steps, fitted and held out.
        created_unix_s: When.
    """

    source: str
    unit: str
    board: str
    reference: str
    scope: str
    scale: float
    offset_mw: float
    low: float
    high: float
    relative_u95: float
    steps: int
    created_unix_s: float

    def __post_init__(self) -> None:
        numbers = [self.scale, self.offset_mw, self.low, self.high, self.relative_u95, self.created_unix_s]
        if not all(math.isfinite(number) for number in numbers):
            raise CalibrationError("calibration: a number is not finite")
        if self.scale <= 0 or self.relative_u95 <= 0 or self.low >= self.high:
            raise CalibrationError("calibration: scale and interval must be positive, and low below high")
        if self.scope not in {scope.value for scope in Scope}:
            raise CalibrationError(
                f"calibration: scope {self.scope!r} is not one of {[scope.value for scope in Scope]}"
            )

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name it; reports cite them."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def correction(self) -> Correction:
        """As a correction of a power sensor."""
        name = f"calibration-{self.id}"
        note = f"against {self.reference} on this unit, over {self.low:.0f} to {self.high:.0f} mW"
        return Correction(name, self.scale, self.offset_mw, Scope(self.scope), self.relative_u95, note)

    def model(self) -> LinearModel:
        """As a model over utilisation."""
        origin = f"calibration-{self.id} against {self.reference} on this unit"
        return LinearModel(origin, self.offset_mw, self.scale, self.relative_u95)

    def save(self, folder: Path) -> Path:
        """Write it to ``<id>.json`` in the folder and return that path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.id}.json"
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        return path

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """From plain values.

        Raises:
            CalibrationError: If a field is missing, unknown, of another type, or senseless.
        """
        types = {f.name: f.type for f in fields(cls)}
        if set(values) != set(types):
            raise CalibrationError(f"calibration: fields {sorted(values)}, expected {sorted(types)}")
        for name, value in values.items():
            wanted = {"str": str, "int": int, "float": (int, float)}[str(types[name])]
            if isinstance(value, bool) or not isinstance(value, wanted):  # type: ignore[arg-type]
                raise CalibrationError(f"calibration: {name} must be {types[name]}, got {value!r:.40}")
        return cls(**values)


def load_calibration(path: Path) -> Calibration:
    """Read one.

    Raises:
        CalibrationError: If the file cannot be read, is no calibration, or was changed since it was made.
    """
    try:
        with path.open(encoding="utf-8") as file:
            calibration = Calibration.from_dict(json.loads(file.read(_MOST_BYTES)))
    except (OSError, ValueError, TypeError, CalibrationError) as error:
        raise CalibrationError(f"{path}: {error}") from error
    if path.stem != calibration.id:
        raise CalibrationError(f"{path}: its content is that of {calibration.id}; it was changed or renamed")
    return calibration


def load_calibrations(folder: Path) -> list[Calibration]:
    """All calibrations in a folder, oldest first, so that the newest of a source wins; none where it does not exist.

    Raises:
        CalibrationError: As `load_calibration` does.
    """
    found = [load_calibration(path) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda calibration: calibration.created_unix_s)


def unit_of(root: Path = Path("/")) -> str:
    """Twelve hexadecimal digits that stand for this very machine without telling its serial number."""
    serial = read_text(root / "proc/device-tree/serial-number") or read_text(root / "etc/machine-id")
    return hashlib.sha256(f"coda-edge:{serial or 'unknown'}".encode()).hexdigest()[:12]
