"""What tells a device's energy: the board's own sensors, a meter beside it, and how much it draws at idle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge.config import EdgeConfig
from edge.errors import ConfigError
from hardware.calibration import Calibration, load_calibrations
from hardware.discovery import Found, find_sensors
from hardware.errors import CalibrationError, MeterError
from profiling.idle import Idle, measure_idle
from profiling.machine import Machine
from profiling.network import ReadNetwork
from profiling.window import Profiler

if TYPE_CHECKING:
    from hardware.meters.stream import MeterStream

METER = "meter"
NET_ENERGY = "net_energy"


class Sensing:
    """Makes a round's profiler. Use it as a context manager for as long as the service runs: it holds the meter open.

    The idle baseline is measured once, before the first round. A meter that cannot be opened stops no round: the record
    says why there is none, and the next round tries again.

    Args:
        config: Names the meter, the calibrations, and the seconds to watch the board at idle.
        stop: Cuts the baseline short.
        root: Where the board's files are; another folder in tests.
        rest: Waits so many seconds, or less once ``stop`` is set.

    Raises:
        ConfigError: If a calibration cannot be read.
    """

    def __init__(
        self,
        config: EdgeConfig,
        stop: threading.Event,
        root: Path = Path("/"),
        rest: Callable[[float], object] | None = None,
    ) -> None:
        self.root = root
        self._rest = rest or stop.wait
        self._config = config
        self._calibrations = _calibrations(config.calibrations)
        self._stream: MeterStream | None = None
        self._idle: Mapping[str, Idle] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Sensing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def profiler(self, network: ReadNetwork) -> Profiler:
        """A profiler for one round, the meter first among its sensors."""
        found = self._find()
        if self._idle is None:
            self._idle = self._watch_idle(found)
        if self._stream is not None:
            self._stream.drain()  # what came between rounds belongs to none
        return Profiler(network, found.sensors, found.reasons, idle=self._idle, machine=Machine(self.root))

    def round_fields(self, profiler: Profiler) -> dict[str, Any]:
        """What the profiler knows of a round's record, and why its energy has no net value."""
        fields = profiler.round_fields()
        source = profiler.energy_source
        if source is not None and source.name not in (self._idle or {}):
            fields["unmeasured"] = {**fields["unmeasured"], NET_ENERGY: self._why_no_idle()}
        return fields

    def _find(self) -> Found:
        found = find_sensors(self.root, self._calibrations)
        if self._config.meter is None:
            return found
        try:
            return Found((self._meter(self._config.meter), *found.sensors), found.reasons)
        except MeterError as error:
            return Found(found.sensors, {**found.reasons, METER: str(error)})

    def _meter(self, port: Path) -> MeterStream:
        """The meter, opened with the first call that succeeds; it connects again by itself."""
        if self._stream is None:
            # Devices without a meter need not load what speaks to one.
            from hardware.meters.autodetect import MeterOptions, open_meter  # noqa: PLC0415
            from hardware.meters.stream import MeterStream  # noqa: PLC0415

            options = MeterOptions(vdd_mv=self._config.meter_vdd_mv)
            self._stream = MeterStream(lambda: open_meter(str(port), self._config.meter_kind, options))
            self._open.callback(self._stream.close)
        return self._stream

    def _watch_idle(self, found: Found) -> Mapping[str, Idle]:
        if not self._config.idle_s or not found.sensors:
            return {}
        return measure_idle(found.sensors, self._config.idle_s, rest=self._rest)

    def _why_no_idle(self) -> str:
        if not self._config.idle_s:
            return "no idle baseline: idle_s is 0 in the device's configuration"
        return f"no idle baseline: too few readings of this sensor in {self._config.idle_s:g} s"


def _calibrations(folder: Path | None) -> list[Calibration]:
    try:
        return [] if folder is None else load_calibrations(folder)
    except CalibrationError as error:
        raise ConfigError(f"configuration: calibrations: {error}") from error
