"""Windows over a round: what each phase costs in time, CPU, memory, bytes and energy."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hardware.sensor import Sensor
from profiling.counters import Values, difference
from profiling.energy_record import EnergyRecord, EnergySource, Overhead
from profiling.idle import Idle
from profiling.ledger import Edge, EnergyLedger
from profiling.machine import Machine
from profiling.memory import NestedPeaks, PeakMemory
from profiling.network import NetworkBytes, ReadNetwork
from profiling.record import PhaseRecord, RoundRecord, total
from profiling.recorder import make_recording
from profiling.recording import Recording
from profiling.sampler import DEFAULT_HZ, Gauge, Probe, Sampler


@dataclass(frozen=True)
class _Edge:
    """Readings at one instant."""

    energy: Edge
    user_s: float
    system_s: float
    network: NetworkBytes | None
    counters: Values


class Profiler:
    """Measures the phases of one round of one process, one after another or nested; used from one thread.

    Every reading is of the whole process, so work that other threads do meanwhile counts. No fault of a sensor or a
    counter reaches the work being measured: the quantity becomes None and ``unmeasured`` says why. While a phase is
    open, a thread samples powers and gauges; it ends by itself.

    Args:
        network: Reads the connection's cumulative bytes; None where there is no connection.
        sensors: Energy counters and power sensors; the first one tells the phases' energies, all tell the round's.
        reasons: Why other sensors are absent, by name; see `hardware.discovery.find_sensors`.
        idle: Idle baselines by the sensors' names; see `profiling.idle.measure_idle`.
        machine: Counters, gauges and throttling; None to leave them out.
        memory: Reads the process's peak.
        hz: Samples a second.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        network: ReadNetwork | None = None,
        sensors: Sequence[Sensor] = (),
        reasons: Mapping[str, str] | None = None,
        *,
        idle: Mapping[str, Idle] | None = None,
        machine: Machine | None = None,
        memory: PeakMemory | None = None,
        hz: float = DEFAULT_HZ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._network = network
        self._ledger = EnergyLedger(sensors, reasons or {}, idle or {})
        self._machine = machine
        self._peaks = NestedPeaks(memory or PeakMemory())
        self._clock = clock
        self._sampler = Sampler([*self._ledger.probes, *_gauges(machine, network)], hz, clock)
        self._level = 0
        self._phases: list[PhaseRecord | None] = []
        self._own_cpu_s = 0.0
        self._unmeasured: dict[str, str] = {}
        if network is None:
            self._unmeasured["network"] = "no connection was given to the profiler"

    @property
    def phases(self) -> tuple[PhaseRecord, ...]:
        """Phases that ended, in the order they began."""
        return tuple(phase for phase in self._phases if phase is not None)

    @property
    def unmeasured(self) -> dict[str, str]:
        """Why a quantity is None, by its name."""
        own = {"energy": self._ledger.unmeasured, "peak_rss": self._peaks.reason}
        machine = self._machine.reasons if self._machine is not None else {}
        return {**machine, **self._unmeasured, **{name: why for name, why in own.items() if why is not None}}

    @property
    def energy_source(self) -> EnergySource | None:
        """The sensor behind the phases' energies."""
        return self._ledger.source

    @property
    def energies(self) -> tuple[EnergyRecord, ...]:
        """The phases of level 0 together, by each sensor."""
        return self._ledger.records()

    @property
    def overhead(self) -> Overhead:
        """What this profiler has cost so far."""
        whole = total("round", (phase for phase in self.phases if phase.level == 0))
        cpu_s, all_cpu_s = self._own_cpu_s + self._sampler.cpu_s, whole.cpu_user_s + whole.cpu_system_s
        net_mj = next((record.net_mj for record in self.energies), None)
        energy_mj = None if net_mj is None or all_cpu_s <= 0 else max(net_mj, 0.0) * min(cpu_s / all_cpu_s, 1.0)
        return Overhead(cpu_s, cpu_s / whole.elapsed_s if whole.elapsed_s > 0 else 0.0, energy_mj)

    @property
    def probes(self) -> tuple[Probe, ...]:
        """What was sampled over time, for a recording."""
        return self._sampler.probes

    def round_fields(self) -> dict[str, Any]:
        """Everything that this profiler knows of a `profiling.record.RoundRecord` beside its phases."""
        machine = self._machine
        return {
            "energy_source": self.energy_source,
            "energies": self.energies,
            "flags": machine.flags if machine is not None else (),
            "conditions": machine.conditions() if machine is not None else {},
            "overhead": self.overhead,
            "unmeasured": self.unmeasured,
        }

    def recording(self, record: RoundRecord, *, synthetic: bool = False) -> Recording:
        """The raw samples behind a round's record, to be kept beside it; ``synthetic`` marks a made-up round."""
        sampled = {id(series) for series in self._ledger.series}
        gauges = [probe.series for probe in self.probes if id(probe.series) not in sampled]
        return make_recording(record, self._ledger, gauges, synthetic=synthetic)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the body; a body that raises is measured too, since its cost was paid."""
        place = len(self._phases)
        self._phases.append(None)
        unix_s, begin = self._begin()
        try:
            yield
        finally:
            self._phases[place] = self._end(name, unix_s, begin)

    def _begin(self) -> tuple[float, _Edge]:
        own_s = time.thread_time()
        self._peaks.begin()
        if self._machine is not None:
            self._machine.cgroup_peaks.begin()
        self._sampler.hold()
        self._sampler.edge()
        self._level += 1
        self._own_cpu_s += time.thread_time() - own_s
        return time.time(), self._read_begin()

    def _end(self, name: str, unix_s: float, begin: _Edge) -> PhaseRecord:
        end = self._read_end()
        own_s = time.thread_time()
        self._sampler.edge()
        self._sampler.release()
        self._level -= 1
        cgroup_peak_bytes = None
        if self._machine is not None:
            self._machine.look()
            cgroup_peak_bytes = self._machine.cgroup_peaks.end()
        record = PhaseRecord(
            name=name,
            elapsed_s=end.energy.at_s - begin.energy.at_s,
            cpu_user_s=max(0.0, end.user_s - begin.user_s),
            cpu_system_s=max(0.0, end.system_s - begin.system_s),
            peak_rss_bytes=self._peaks.end(),
            cgroup_peak_bytes=cgroup_peak_bytes,
            level=self._level,
            started_unix_s=unix_s,
            counters=difference(begin.counters, end.counters),
            **self._traffic(begin.network, end.network),
            **self._ledger.close(name, self._level, begin.energy, end.energy),  # type: ignore[arg-type]
        )
        self._own_cpu_s += time.thread_time() - own_s
        return record

    def _read_begin(self) -> _Edge:
        """The clock is read after all that is slow, so that the profiler's own work falls outside the window."""
        counters = self._read_counters()
        network = self._network() if self._network else None
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return _Edge(self._ledger.mark(self._clock()), usage.ru_utime, usage.ru_stime, network, counters)

    def _read_end(self) -> _Edge:
        """The clock is read before all that is slow, for the same reason."""
        energy = self._ledger.mark(self._clock())
        usage = resource.getrusage(resource.RUSAGE_SELF)
        network = self._network() if self._network else None
        return _Edge(energy, usage.ru_utime, usage.ru_stime, network, self._read_counters())

    def _read_counters(self) -> Values:
        return self._machine.counters.read() if self._machine is not None else {}

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


def _gauges(machine: Machine | None, network: ReadNetwork | None) -> list[Gauge]:
    if machine is None:
        return []
    gauges = list(machine.gauges)
    if network is not None:
        gauges.append(Gauge("mqtt_bytes", lambda: float(network().mqtt_up + network().mqtt_down)))
    return gauges
