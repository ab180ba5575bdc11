"""What can be measured on this machine, how, and why the rest cannot: the answer to ``coda hardware info``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardware.board import Board, identify
from hardware.calibration import Calibration, unit_of
from hardware.discovery import find_sensors
from hardware.firmware import find_firmware
from hardware.sensor import Sensor
from hardware.state import frequency_mhz, governor, power_mode, temperatures_c, throttle_reader
from profiling.counters import Counters, smaps
from profiling.memory import PeakMemory


@dataclass(frozen=True)
class Ability:
    """One quantity.

    Attributes:
        quantity: Its name.
        how: How it is measured here; None where it is not.
        why_not: Why it cannot be measured; None where it can.
        note: Kind, scope and error bar of an energy, or what else a reader must know.
    """

    quantity: str
    how: str | None
    why_not: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Info:
    """A machine and what it can tell.

    Attributes:
        board: What it is.
        unit: Stands for this very unit; calibrations are tied to it.
        state: Governor, power mode, temperatures and clock rate now, as known.
        abilities: Every quantity that a round record may hold.
    """

    board: Board
    unit: str
    state: Mapping[str, Any]
    abilities: Sequence[Ability]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {
            "board": self.board.to_dict(),
            "unit": self.unit,
            "state": dict(self.state),
            "abilities": [asdict(ability) for ability in self.abilities],
        }


def describe(root: Path = Path("/"), calibrations: Sequence[Calibration] = ()) -> Info:
    """Look at the machine under ``root``; never raises."""
    state = {
        "governor": governor(root),
        "power_mode": power_mode(root),
        "frequency_mhz": frequency_mhz(root),
        "temperatures_c": temperatures_c(root) or None,
    }
    abilities = [*_process(root), *_machine(root), *_energy(root, calibrations)]
    known = {name: value for name, value in state.items() if value is not None}
    return Info(identify(root), unit_of(root), known, abilities)


def _process(root: Path) -> list[Ability]:
    counters = Counters(root)
    peak = PeakMemory(root / "proc/self")
    peak.reset()
    peak.peak_bytes()
    return [
        Ability("wall time", "monotonic clock"),
        Ability("processor time", "getrusage of the process, all threads"),
        Ability("peak memory by phase", None if peak.reason else "clear_refs and VmHWM", peak.reason),
        _ability("proportional memory", "smaps_rollup", bool(smaps(root)), "/proc/self/smaps_rollup cannot be read"),
        Ability("message and MQTT bytes", "counted at the connection's socket"),
        Ability("context switches, major faults", "getrusage"),
        _counted(counters, "io", "storage bytes", "/proc/self/io"),
        _counted(counters, "cgroup", "processor time of the control group", "cpu.stat"),
    ]


def _machine(root: Path) -> list[Ability]:
    counters = Counters(root)
    throttle = throttle_reader(root, find_firmware(root))
    return [
        _counted(counters, "stall", "stalls of processor, memory, storage", "/proc/pressure"),
        _counted(counters, "interface", "interface bytes", "/proc/net/dev"),
        _ability("clock rate", "cpufreq", frequency_mhz(root) is not None, "the kernel gives no clock rate in cpufreq"),
        _ability("temperature", "thermal zones", bool(temperatures_c(root)), "no readable zone in /sys/class/thermal"),
        Ability("throttling", *(("firmware or counter", None) if not isinstance(throttle, str) else (None, throttle))),
    ]


def _energy(root: Path, calibrations: Sequence[Calibration]) -> list[Ability]:
    found = find_sensors(root, calibrations)
    usable = [Ability(f"energy: {s.source.name}", s.source.kind.value, None, _note(s)) for s in found.sensors]
    return usable + [Ability(f"energy: {name}", None, why) for name, why in found.reasons.items()]


def _note(sensor: Sensor) -> str:
    source = sensor.source
    bar = "error not stated" if source.relative_u95 is None else f"±{source.relative_u95:.0%} at 95%"
    return f"scope {source.scope.value}, {bar}; {source.note}"


def _counted(counters: Counters, group: str, quantity: str, how: str) -> Ability:
    return Ability(quantity, None if group in counters.reasons else how, counters.reasons.get(group))


def _ability(quantity: str, how: str, can: bool, why_not: str) -> Ability:
    return Ability(quantity, how if can else None, None if can else why_not)
