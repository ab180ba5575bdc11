"""What one round on one device did and cost: the record that travels to the cloud, to disk and into reports.

`profiling/round_record.schema.json` documents the same for readers outside Python. None means not measured; the reason
then stands in ``unmeasured`` under the quantity's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from profiling.errors import RecordError
from profiling.fields import build

SCHEMA_VERSION = 1
PHASES = ("sync", "query", "fetch", "classify", "tune", "gate", "report")
"""A round's phases in order."""


@dataclass(frozen=True)
class PhaseRecord:
    """Cost of one phase, phases nested in it included.

    Attributes:
        name: One of `PHASES` at level 0; free below.
        elapsed_s: Monotonic seconds from begin to end.
        cpu_user_s: Processor seconds of all threads of this process in user mode.
        cpu_system_s: The same in the kernel.
        peak_rss_bytes: Largest resident memory of the process within the phase.
        payload_up_bytes: Message payloads sent.
        payload_down_bytes: Message payloads received.
        mqtt_up_bytes: MQTT packets sent, before TLS.
        mqtt_down_bytes: MQTT packets received, before TLS.
        tcp_up_bytes: Bytes TCP sent, TLS included, headers not.
        tcp_down_bytes: Bytes TCP received.
        energy_mj: Energy over the phase, by the round's ``energy_source``.
        level: 0 for a phase of the round, 1 for a phase nested in one of those, and so on.
        started_unix_s: Wall clock at its begin; for display only, since that clock may step.
    """

    name: str
    elapsed_s: float
    cpu_user_s: float
    cpu_system_s: float
    peak_rss_bytes: int | None = None
    payload_up_bytes: int | None = None
    payload_down_bytes: int | None = None
    mqtt_up_bytes: int | None = None
    mqtt_down_bytes: int | None = None
    tcp_up_bytes: int | None = None
    tcp_down_bytes: int | None = None
    energy_mj: float | None = None
    level: int = 0
    started_unix_s: float | None = None

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


_AMOUNTS = tuple(f.name for f in fields(PhaseRecord) if f.name != "name")
_SUMMED = tuple(name for name in _AMOUNTS if name not in ("peak_rss_bytes", "level", "started_unix_s"))


@dataclass(frozen=True)
class Outcome:
    """What the round came to.

    Attributes:
        decision: ``activated`` (the personal model serves), ``kept-h0`` (the gate found no gain),
            ``served-h0-too-few-samples``, or another short word in lower case and hyphens.
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
class EnergySource:
    """The sensor behind every ``energy_mj`` of a record, as `hardware.sensor.Source` describes it."""

    name: str
    kind: str
    scope: str
    relative_u95: float | None = None
    note: str = ""


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
    emulated: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def totals(self) -> PhaseRecord:
        """The round as one phase; time between phases is not in it."""
        return total("round", (phase for phase in self.phases if phase.level == 0))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for messages and files; ``totals`` is among them for readers without this code."""
        values = asdict(self)
        values["phases"], values["emulated"] = list(values["phases"]), list(self.emulated)
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
    peaks, starts = column("peak_rss_bytes"), column("started_unix_s")
    return PhaseRecord(
        name=name,
        **sums,
        **optional,
        peak_rss_bytes=max(peaks) if peaks else None,
        started_unix_s=min(starts) if starts else None,
    )


def _check_not_negative(value: float | None, what: str) -> None:
    if value is not None and value < 0:
        raise RecordError(f"{what} must not be negative, got {value}")
