"""What one round on one device did and cost: the record that travels to the cloud, to disk and into reports.

`profiling/round_record.schema.json` documents the same for readers outside Python. None means not measured; the reason
then stands in ``unmeasured`` under the quantity's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from profiling.energy_record import EnergyRecord, EnergySource, Overhead
from profiling.errors import RecordError
from profiling.fields import build

SCHEMA_VERSION = 1
_COVERS = 0.98
PHASES = ("sync", "query", "fetch", "classify", "tune", "gate", "report")
"""A round's phases in order."""

ACTIVATED = "activated"
KEPT_H0 = "kept-h0"
ABANDONED = "abandoned"
"""Decisions that the cloud counts: the personal model serves, the gate refused it, the round failed."""


@dataclass(frozen=True)
class PhaseRecord:
    """Cost of one phase, phases nested in it included.

    Attributes:
        name: One of `PHASES` at level 0; free below.
        elapsed_s: Monotonic seconds from begin to end.
        cpu_user_s: Processor seconds of all threads of this process in user mode.
        cpu_system_s: The same in the kernel.
        peak_rss_bytes: Largest resident memory of the process within the phase.
        cgroup_peak_bytes: Largest memory of the process's control group, cache included, within the phase.
        payload_up_bytes: Message payloads sent.
        payload_down_bytes: Message payloads received.
        mqtt_up_bytes: MQTT packets sent, before TLS.
        mqtt_down_bytes: MQTT packets received, before TLS.
        tcp_up_bytes: Bytes TCP sent, TLS included, headers not.
        tcp_down_bytes: Bytes TCP received.
        energy_mj: Energy over the phase, by the round's ``energy_source``.
        energy_u95_mj: Half-width of its 95% interval.
        level: 0 for a phase of the round, 1 for a phase nested in one of those, and so on.
        started_unix_s: Wall clock at its begin; for display only, since that clock may step.
        counters: Further counters by name; `profiling.counters.MEANINGS` says what each counts.
    """

    name: str
    elapsed_s: float
    cpu_user_s: float
    cpu_system_s: float
    peak_rss_bytes: int | None = None
    cgroup_peak_bytes: int | None = None
    payload_up_bytes: int | None = None
    payload_down_bytes: int | None = None
    mqtt_up_bytes: int | None = None
    mqtt_down_bytes: int | None = None
    tcp_up_bytes: int | None = None
    tcp_down_bytes: int | None = None
    energy_mj: float | None = None
    energy_u95_mj: float | None = None
    level: int = 0
    started_unix_s: float | None = None
    counters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise RecordError("phase: a name is required")
        for name in _AMOUNTS:
            _check_not_negative(getattr(self, name), f"phase {self.name}: {name}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for messages and files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> PhaseRecord:
        """Inverse of `to_dict`.

        Raises:
            RecordError: If a field is missing, unknown, of another type, negative or not finite.
        """
        return build(cls, values, "phase")


_AMOUNTS = tuple(f.name for f in fields(PhaseRecord) if f.name not in ("name", "counters"))
_PEAKS = ("peak_rss_bytes", "cgroup_peak_bytes")
_SUMMED = tuple(name for name in _AMOUNTS if name not in (*_PEAKS, "level", "started_unix_s"))


@dataclass(frozen=True)
class Outcome:
    """What the round came to.

    Attributes:
        decision: `ACTIVATED`, `KEPT_H0`, `ABANDONED`, ``served-h0-too-few-samples``, or another short word in lower
            case and hyphens.
        reason: One sentence on why.
        samples_local: Samples of the device's own.
        samples_matched: Samples that the cloud sent.
        samples_kept: Matched samples that the classifier kept.
        metrics: Further numbers by name, such as hold-out log-loss before and after; None where there is none.
    """

    decision: str
    reason: str
    samples_local: int
    samples_matched: int
    samples_kept: int
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.decision:
            raise RecordError("outcome: a decision is required")
        for name in ("samples_local", "samples_matched", "samples_kept"):
            _check_not_negative(getattr(self, name), f"outcome: {name}")


@dataclass(frozen=True)
class RoundRecord:
    """One round on one device.

    Attributes:
        round_id: Names the round; unique on its device.
        device: The device's name.
        task_version: Version of the task that was done.
        started_unix_s: Wall clock at the round's begin.
        board: The machine, as `hardware.board.Board.to_dict` gives it.
        software: Versions by name, such as ``coda-edge``, ``python``, ``runtime``.
        phases: In the order they ran. A device that is killed and continues runs the interrupted phase again, so a name
            may appear more than once; each stands for cost that was really paid. What a killed phase had spent is lost.
        outcome: What the round came to.
        energy_source: The sensor behind ``energy_mj``; None where there is none.
        unmeasured: Reason by quantity for everything that could not be measured.
        energies: The whole round by each sensor that was there, the one behind the phases first. Values of different
            kinds or scopes are not to be added or ranked.
        flags: Why the round's numbers must not be compared with others', such as ``throttled`` or ``clock-stepped``.
        conditions: The machine's state, such as ``governor``, ``temperature_c_max``, ``frequency_mhz_mean``.
        overhead: What measuring itself cost.
        traffic: Payload, MQTT and TCP bytes, up and down, by purpose (`protocol.purposes.PURPOSES`), until the record
            was made. TCP's are shared out by the MQTT bytes of the same time.
        emulated: What was emulated, such as ``board`` or ``instruction set``; times and energies are then no board's.
        schema_version: Version of this layout.
    """

    round_id: str
    device: str
    task_version: int
    started_unix_s: float
    board: Mapping[str, Any]
    software: Mapping[str, str]
    phases: tuple[PhaseRecord, ...]
    outcome: Outcome
    energy_source: EnergySource | None = None
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    energies: tuple[EnergyRecord, ...] = ()
    flags: tuple[str, ...] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)
    overhead: Overhead | None = None
    traffic: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)
    emulated: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def totals(self) -> PhaseRecord:
        """The round as one phase; time between phases is not in it.

        Phases too short to have an energy each may have one together; the first of ``energies`` then tells it, if it
        covers them all (it does not when the device was started anew within the round).
        """
        whole = total("round", (phase for phase in self.phases if phase.level == 0))
        if whole.energy_mj is not None or not self.energies:
            return whole
        together = self.energies[0]
        if together.gross_mj is None or together.window_s < _COVERS * whole.elapsed_s:
            return whole
        return replace(whole, energy_mj=together.gross_mj, energy_u95_mj=together.u95_mj)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for messages and files; ``totals`` is among them for readers without this code."""
        values = asdict(self)
        values |= {name: list(values[name]) for name in ("phases", "energies", "flags", "emulated")}
        return {**values, "totals": self.totals.to_dict()}

    @classmethod
    def from_dict(cls, values: object) -> RoundRecord:
        """Inverse of `to_dict`; ``totals`` is computed anew.

        Raises:
            RecordError: If the schema version is another, or a field is missing, unknown, of another type, negative or
                not finite.
        """
        if not isinstance(values, Mapping):
            raise RecordError(f"round record: expected a map of fields, got {type(values).__name__}")
        version = values.get("schema_version")
        if version != SCHEMA_VERSION:
            raise RecordError(f"round record: schema version {version!r}, this program reads {SCHEMA_VERSION}")
        return build(cls, {name: value for name, value in values.items() if name != "totals"}, "round record")


def total(name: str, phases: Iterable[PhaseRecord]) -> PhaseRecord:
    """Sum of phases that follow one another; the peak is the largest. What one of them lacks, the sum lacks."""
    rows = list(phases)

    def column(field_name: str) -> list[Any] | None:
        values = [getattr(row, field_name) for row in rows]
        return None if not values or any(value is None for value in values) else values

    sums = {field_name: sum(column(field_name) or [0.0]) for field_name in ("elapsed_s", "cpu_user_s", "cpu_system_s")}
    optional = {f: sum(values) for f in _SUMMED if f not in sums and (values := column(f)) is not None}
    counters = [row.counters for row in rows]
    shared = set.intersection(*map(set, counters)) if counters else set()
    peaks = {name: max(found) for name in _PEAKS if (found := column(name))}
    starts = column("started_unix_s")
    return PhaseRecord(
        name=name,
        **sums,
        **optional,
        **peaks,
        started_unix_s=min(starts) if starts else None,
        counters={key: sum(values[key] for values in counters) for key in sorted(shared)},
    )


def _check_not_negative(value: float | None, what: str) -> None:
    if value is not None and value < 0:
        raise RecordError(f"{what} must not be negative, got {value}")
