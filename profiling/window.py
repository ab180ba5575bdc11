"""Windows over a round: what each phase costs in time, CPU, memory, bytes and energy."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hardware.errors import SensorError
from hardware.sensor import EnergySensor
from profiling.memory import PeakMemory
from profiling.network import NetworkBytes, ReadNetwork
from profiling.record import EnergySource, PhaseRecord


@dataclass
class _Edge:
    """Readings at one instant."""

    monotonic_s: float
    user_s: float
    system_s: float
    network: NetworkBytes | None
    energy_mj: float | None


@dataclass
class _Open:
    """A phase that has begun and not ended."""

    begin: _Edge
    unix_s: float
    peak_rss_bytes: int | None = 0


class Profiler:
    """Measures phases of one process, one after another or nested; used from one thread.

    Every reading is of the whole process, so work that other threads do meanwhile counts. No fault of a sensor or a
    counter reaches the work being measured: the quantity becomes None and ``unmeasured`` says why.

    Args:
        network: Reads the connection's cumulative bytes; None where there is no connection.
        sensors: Energy counters, the widest scope first; the first one is used.
        reasons: Why other sensors are absent, by name; see `hardware.discovery.find_sensors`.
        memory: Reads the process's peak.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        network: ReadNetwork | None = None,
        sensors: Sequence[EnergySensor] = (),
        reasons: Mapping[str, str] | None = None,
        *,
        memory: PeakMemory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._network = network
        self._sensor = sensors[0] if sensors else None
        self._memory = memory or PeakMemory()
        self._clock = clock
        self._open: list[_Open] = []
        self._phases: list[PhaseRecord | None] = []
        self._unmeasured: dict[str, str] = {}
        if network is None:
            self._unmeasured["network"] = "no connection was given to the profiler"
        if self._sensor is None:
            why = "; ".join(f"{name}: {reason}" for name, reason in (reasons or {}).items())
            self._unmeasured["energy"] = why or "no energy sensor was given to the profiler"

    @property
    def phases(self) -> tuple[PhaseRecord, ...]:
        """Phases that ended, in the order they began."""
        return tuple(phase for phase in self._phases if phase is not None)

    @property
    def unmeasured(self) -> dict[str, str]:
        """Why a quantity is None, by its name."""
        return dict(self._unmeasured)

    @property
    def energy_source(self) -> EnergySource | None:
        """The sensor behind the phases' energies."""
        return None if self._sensor is None else EnergySource(**self._sensor.source.to_dict())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the body; a body that raises is measured too, since its cost was paid."""
        place = len(self._phases)
        self._phases.append(None)
        opened = self._begin()
        try:
            yield
        finally:
            self._phases[place] = self._end(name, opened)

    def _begin(self) -> _Open:
        self._fold_peak()
        self._memory.reset()
        # The edge is read last, so that the profiler's own work falls outside the window.
        opened = _Open(begin=_Edge(0, 0, 0, None, None), unix_s=time.time())
        self._open.append(opened)
        opened.begin = self._read()
        return opened

    def _end(self, name: str, opened: _Open) -> PhaseRecord:
        end = self._read()
        self._fold_peak()
        self._open.remove(opened)
        begin = opened.begin
        return PhaseRecord(
            name=name,
            elapsed_s=end.monotonic_s - begin.monotonic_s,
            cpu_user_s=max(0.0, end.user_s - begin.user_s),
            cpu_system_s=max(0.0, end.system_s - begin.system_s),
            peak_rss_bytes=opened.peak_rss_bytes,
            energy_mj=None if end.energy_mj is None or begin.energy_mj is None else end.energy_mj - begin.energy_mj,
            level=len(self._open),
            started_unix_s=opened.unix_s,
            **self._traffic(begin.network, end.network),
        )

    def _read(self) -> _Edge:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        network = self._network() if self._network else None
        return _Edge(self._clock(), usage.ru_utime, usage.ru_stime, network, self._read_energy())

    def _read_energy(self) -> float | None:
        if self._sensor is None:
            return None
        try:
            return self._sensor.energy_mj()
        except SensorError as error:
            self._unmeasured["energy"] = f"{error} (in part of the round)"
            return None

    def _fold_peak(self) -> None:
        """Carry the peak since the last reset into every phase that is open: each of them contains it."""
        peak_bytes = self._memory.peak_bytes() if self._open else None
        for phase in self._open:
            known = phase.peak_rss_bytes is not None and peak_bytes is not None
            phase.peak_rss_bytes = max(phase.peak_rss_bytes or 0, peak_bytes or 0) if known else None
        if self._memory.reason is not None:
            self._unmeasured["peak_rss"] = self._memory.reason

    def _traffic(self, begin: NetworkBytes | None, end: NetworkBytes | None) -> dict[str, Any]:
        if begin is None or end is None:
            return {}
        used = end - begin
        values = {f"{name}_bytes": value for name, value in vars(used).items()}
        if any(value is not None and value < 0 for value in values.values()):
            self._unmeasured["network"] = "the connection's counters fell within a phase"
            return {}
        if used.tcp_up is None or used.tcp_down is None:
            self._unmeasured.setdefault("tcp", "the connection does not count TCP's bytes")
        return values
