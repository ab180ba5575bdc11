"""One sensor followed through a round, whether it counts energy or tells power."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hardware.errors import SensorError
from hardware.sensor import EnergySensor, PowerSensor, Sensor, Source, StreamSensor
from profiling.energy import Energy, count, integrate, refuse_still
from profiling.sampler import Gauge, Probe
from profiling.series import Series


@dataclass(frozen=True)
class Mark:
    """One edge of a window as a track sees it.

    Attributes:
        at_s: Monotonic seconds.
        counted_mj: A counter's reading; None for a power, or where it could not be read.
        breaks: Times that the counter had lost count by then.
    """

    at_s: float
    counted_mj: float | None = None
    breaks: int = 0


class Track(ABC):
    """A sensor's readings over a round.

    Attributes:
        source: The sensor's identity.
        probe: What the sampler has to sample for it, or None.
        faults: Readings that failed.
        fault: What the last of them said.
        series: What it told over time: powers, or a counter's readings.
        counts: Whether the sensor counts energy.
        latency_s: How old a reading may be.
        step_mj: A counter's smallest step.
        still_s: Longest time for which the sensor says exactly the same while it lives.
    """

    series: Series
    counts = False
    step_mj = 0.0

    def __init__(self, sensor: Sensor) -> None:
        self.source: Source = sensor.source
        self.latency_s = sensor.latency_s
        self.still_s = sensor.still_s
        self.probe: Probe | None = None
        self.faults = 0
        self.fault: str | None = None

    @abstractmethod
    def mark(self, at_s: float) -> Mark:
        """The edge of a window at ``at_s``, which is now."""

    @abstractmethod
    def energy(self, spans: Sequence[tuple[Mark, Mark]]) -> Energy:
        """Energy over windows that do not overlap."""


class CounterTrack(Track):
    """Follows an energy counter by its readings at the edges; in between it is sampled for plots and wraparound."""

    counts = True

    def __init__(self, sensor: EnergySensor) -> None:
        super().__init__(sensor)
        self._sensor = sensor
        self.step_mj = sensor.step_mj
        self._lock = threading.Lock()
        self.probe: Probe = Gauge(f"energy_mj:{sensor.source.name}", self._read)
        self.series = self.probe.series

    def mark(self, at_s: float) -> Mark:
        """The edge with the counter's reading."""
        try:
            return Mark(at_s, self._read(), self._sensor.breaks)
        except SensorError as error:
            self.faults += 1
            self.fault = str(error)
            return Mark(at_s)

    def energy(self, spans: Sequence[tuple[Mark, Mark]]) -> Energy:
        """Sum of the counter's differences; without a number where an edge could not be read, or it stood still."""
        bar, fault = self.source.relative_u95, self.fault or self.probe.fault
        energy = count_spans(spans, relative_u95=bar, latency_s=self.latency_s, step_mj=self.step_mj)
        if energy.energy_mj is not None:
            windows = [(begin.at_s, end.at_s) for begin, end in spans]
            return refuse_still(energy, *self.series.copy(), windows, self.still_s)
        return replace(energy, reason=f"{energy.reason}: {fault}" if fault else energy.reason)

    def _read(self) -> float:
        with self._lock:
            return self._sensor.energy_mj()


def count_spans(
    spans: Sequence[tuple[Mark, Mark]],
    *,
    relative_u95: float | None = None,
    latency_s: float = 0.0,
    step_mj: float = 0.0,
) -> Energy:
    """A counter's energy over windows that do not overlap; see `profiling.energy.count`."""
    window_s = sum(end.at_s - begin.at_s for begin, end in spans)
    parts = []
    for begin, end in spans:
        if begin.counted_mj is None or end.counted_mj is None:
            return Energy(None, None, None, window_s, reason="the counter could not be read")
        if begin.breaks != end.breaks:
            return Energy(None, None, None, window_s, reason="the counter lost count within a window")
        parts.append(end.counted_mj - begin.counted_mj)
    if any(part < 0 for part in parts):
        return Energy(None, None, None, window_s, reason="the counter fell within a window")
    return count(sum(parts), window_s, relative_u95=relative_u95, latency_s=latency_s, step_mj=step_mj)


class _PowerProbe(Probe):
    def __init__(self, sensor: PowerSensor) -> None:
        super().__init__(f"power_mw:{sensor.source.name}", sensor.most_hz)
        self._sensor = sensor

    def read(self) -> float:
        return self._sensor.power_mw()


class PowerTrack(Track):
    """Follows a power by sampling it."""

    def __init__(self, sensor: PowerSensor) -> None:
        super().__init__(sensor)
        self.probe: Probe = _PowerProbe(sensor)
        self.series = self.probe.series

    def mark(self, at_s: float) -> Mark:
        """The edge; the samples around it tell the power there."""
        return Mark(at_s)

    def energy(self, spans: Sequence[tuple[Mark, Mark]]) -> Energy:
        """Integral over the windows; see `profiling.energy.integrate`."""
        self.faults, self.fault = self.probe.faults, self.probe.fault
        times_s, powers_mw = self.probe.series.copy()
        return _integrate(self, times_s, powers_mw, spans)


class StreamTrack(Track):
    """Follows a meter that sends powers by itself."""

    def __init__(self, sensor: StreamSensor) -> None:
        super().__init__(sensor)
        self._sensor = sensor
        self.series = Series(f"power_mw:{sensor.source.name}")

    def mark(self, at_s: float) -> Mark:
        """The edge; what the meter sends around it tells the power there."""
        self._drain()
        return Mark(at_s)

    def energy(self, spans: Sequence[tuple[Mark, Mark]]) -> Energy:
        """Integral over the windows; see `profiling.energy.integrate`."""
        self._drain()
        return _integrate(self, *self.series.copy(), spans)

    def _drain(self) -> None:
        for at_s, power_mw in self._sensor.drain():
            self.series.append(at_s, power_mw)
        self.faults, self.fault = self._sensor.faults, self._sensor.fault


def _integrate(
    track: Track, times_s: Sequence[float], powers_mw: Sequence[float], spans: Sequence[tuple[Mark, Mark]]
) -> Energy:
    windows = [(begin.at_s, end.at_s) for begin, end in spans]
    bar = track.source.relative_u95
    return integrate(times_s, powers_mw, windows, relative_u95=bar, latency_s=track.latency_s, still_s=track.still_s)


def follow(sensor: Sensor) -> Track:
    """The track that fits the sensor."""
    if isinstance(sensor, EnergySensor):
        return CounterTrack(sensor)
    if isinstance(sensor, PowerSensor):
        return PowerTrack(sensor)
    if isinstance(sensor, StreamSensor):
        return StreamTrack(sensor)
    raise TypeError(f"{type(sensor).__name__} counts no energy and tells no power")
