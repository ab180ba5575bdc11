"""A round's raw samples in a file, so that its report can be computed again and the round be played back as a meter.

JSON Lines: a header, then one line a phase and one line a series. Times are seconds since the first phase began.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from profiling.energy_record import EnergySource
from profiling.errors import RecordError, RunError
from profiling.fields import build

SCHEMA_VERSION = 1
RECORDINGS_FOLDER = "recordings"
_MOST_LINES = 10_000
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class RecordedSource:
    """A sensor of the round.

    Attributes:
        source: Its identity.
        counts: Whether it counts energy; else its power is a series.
        latency_s: How old a reading may be.
        step_mj: A counter's smallest step.
        still_s: Longest time for which the sensor says exactly the same while it lives; None where nobody knows.
    """

    source: EnergySource
    counts: bool
    latency_s: float = 0.0
    step_mj: float = 0.0
    still_s: float | None = None


@dataclass(frozen=True)
class RecordedPhase:
    """A phase's window.

    Attributes:
        name: Its name.
        level: 0 for a phase of the round.
        begin_s: When it began.
        end_s: When it ended.
        begin_mj: Counters' readings then, by source.
        end_mj: Counters' readings at the end.
    """

    name: str
    level: int
    begin_s: float
    end_s: float
    begin_mj: Mapping[str, float | None]
    end_mj: Mapping[str, float | None]


@dataclass(frozen=True)
class RecordedSeries:
    """Samples of one quantity.

    Attributes:
        name: Such as ``power_mw:pi5-pmic``, ``energy_mj:rapl``, ``rss_bytes``.
        times_s: When.
        values: What.
    """

    name: str
    times_s: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times_s) != len(self.values):
            raise RecordError(f"series {self.name}: {len(self.times_s)} times and {len(self.values)} values")


@dataclass(frozen=True)
class Recording:
    """A round's raw samples.

    Attributes:
        device: The device's name.
        round_id: The round's.
        started_unix_s: Wall clock when the first phase began.
        board: The machine, as in the round's record.
        synthetic: Made up by a generator, for documentation and tests; no board's.
        sources: Its sensors, the one behind the phases' energies first.
        phases: In the order they began.
        series: What was sampled.
    """

    device: str
    round_id: str
    started_unix_s: float
    board: Mapping[str, Any]
    synthetic: bool
    sources: tuple[RecordedSource, ...]
    phases: tuple[RecordedPhase, ...]
    series: tuple[RecordedSeries, ...]

    def find(self, name: str) -> RecordedSeries | None:
        """The series of that name, or None."""
        return next((series for series in self.series if series.name == name), None)

    def save(self, path: Path) -> None:
        """Write it; whoever reads meanwhile, or after a power cut, finds a whole file or none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        values = asdict(self)
        parts = {name: values.pop(name) for name in ("phases", "series")}
        unfinished = path.with_suffix(".part")
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"schema_version": SCHEMA_VERSION, **values}, allow_nan=False) + "\n")
            for name, rows in parts.items():
                for row in rows:
                    file.write(json.dumps({name: row}, allow_nan=False, separators=(",", ":")) + "\n")
        unfinished.replace(path)


def load_recording(path: Path) -> Recording:
    """Read one.

    Raises:
        RunError: If the file is missing, too large, cut short, malformed, or of another schema version.
    """
    lines = _lines(path)
    header = next(lines, None)
    version = header.pop("schema_version", None) if header else None
    if header is None or version != SCHEMA_VERSION:
        raise RunError(f"{path}:1: schema version {version!r}, this program reads {SCHEMA_VERSION}")
    phases, series = [], []
    try:
        for row in lines:
            if "phases" in row:
                phases.append(build(RecordedPhase, row["phases"], "phase"))
            else:
                series.append(build(RecordedSeries, row.get("series"), "series"))
        empty = build(Recording, {**header, "phases": (), "series": ()}, "recording")
        return replace(empty, phases=tuple(phases), series=tuple(series))
    except RecordError as error:
        raise RunError(f"{path}: {error}") from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RunError(f"{path}: larger than {_MOST_BYTES >> 20} MiB, which no recording is")
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                values = json.loads(line)
                if not isinstance(values, dict) or number > _MOST_LINES:
                    raise RunError(f"{path}:{number}: not a line of a recording")
                yield values
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not a whole recording ({error})") from error
