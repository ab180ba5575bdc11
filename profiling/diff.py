"""What changed between two runs: ``coda report diff A B``.

The whole round's costs are tested, adjusted for being several; phases are listed to show where a change lies. Where
both runs have the same devices, each is compared with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from profiling.crosscheck import why_incomparable
from profiling.metrics import METRICS, ROUND, Metric, by_phase, values
from profiling.record import RoundRecord
from profiling.run import Run
from profiling.statistics import holm, least_p, paired_p, settled, unpaired_p

SIGNIFICANT = 0.05
INCOMPARABLE = "energies do not compare"
_CIRCUMSTANCES: tuple[tuple[str, Callable[[RoundRecord], str]], ...] = (
    ("boards", lambda record: str(record.board.get("kind"))),
    ("software", lambda record: ", ".join(f"{name} {text}" for name, text in sorted(record.software.items()))),
    ("emulation", lambda record: ", ".join(record.emulated) or "none"),
    ("governors", lambda record: str(record.conditions.get("governor"))),
)
LEAST_CHANGE = 0.02  # a smaller change of the median is not worth a word, however certain
TOO_FEW = "too few rounds to tell"


@dataclass(frozen=True)
class Change:
    """One cost in two runs.

    Attributes:
        metric: Its name.
        before: Median of the first run.
        after: Median of the second.
        relative: Change of the median as a share; None where the first is zero or a side is missing.
        p: Adjusted two-sided p; None where it was not tested.
        verdict: ``worse``, ``better``, ``no significant change``, or why it was not tested.
        phases: Change of each phase's median, in the metric's unit, the largest first.
    """

    metric: str
    before: float | None
    after: float | None
    relative: float | None
    p: float | None
    verdict: str
    phases: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Diff:
    """Two runs compared.

    Attributes:
        changes: One a metric.
        warnings: Why some of it must be taken with care.
        paired: Whether each device was compared with itself.
    """

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    paired: bool

    @property
    def worse(self) -> tuple[Change, ...]:
        """What got significantly worse."""
        return tuple(change for change in self.changes if change.verdict == "worse")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)


def diff(before: Run, after: Run, warm_up: int = 1) -> Diff:
    """Compare two runs' rounds, each device's first ``warm_up`` left out where it has more."""
    first, second = settled(before.rounds, warm_up), settled(after.rounds, warm_up)
    paired = _devices(first) == _devices(second) and bool(first)
    incomparable = _energy_incomparable(first, second)
    pairs = [_sample(first, second, metric, paired) for metric in METRICS]
    verdicts = [
        (None, incomparable) if metric.name == "energy_mj" and incomparable else _test(a, b, paired)
        for metric, (a, b) in zip(METRICS, pairs, strict=True)
    ]
    adjusted = iter(holm([p for p, _ in verdicts if p is not None]))
    changes = []
    for metric, (a, b), (p, why) in zip(METRICS, pairs, verdicts, strict=True):
        phases = _by_phase(metric, first, second)
        changes.append(_change(metric, a, b, None if p is None else next(adjusted), why=why, phases=phases))
    return Diff(tuple(changes), tuple(_warnings(first, second)), paired)


def _devices(rounds: Sequence[RoundRecord]) -> set[tuple[str, str]]:
    """Devices with their boards: one that got another board is no longer itself."""
    return {(record.device, str(record.board.get("kind"))) for record in rounds}


def _test(a: Sequence[float], b: Sequence[float], paired: bool) -> tuple[float | None, str]:
    """The p before it is adjusted, or why there is none."""
    if not a or not b:
        return None, "not measured"
    if least_p(len(a), len(b), paired=paired) * len(METRICS) > SIGNIFICANT:
        return None, TOO_FEW  # not even rounds that all point the same way would be significant
    return paired_p(np.subtract(b, a).tolist()) if paired else unpaired_p(a, b), ""


def _sample(
    first: Sequence[RoundRecord], second: Sequence[RoundRecord], metric: Metric, paired: bool
) -> tuple[list[float], list[float]]:
    """The metric in both runs; where devices are paired, one median a device, in the same order."""
    if not paired:
        return values(first, metric), values(second, metric)
    columns: tuple[list[float], list[float]] = ([], [])
    for device in sorted({record.device for record in first}):
        medians = [values([r for r in rounds if r.device == device], metric) for rounds in (first, second)]
        if all(medians):
            for column, found in zip(columns, medians, strict=True):
                column.append(float(np.median(found)))
    return columns


def _change(
    metric: Metric,
    a: Sequence[float],
    b: Sequence[float],
    p: float | None,
    *,
    why: str,
    phases: tuple[tuple[str, float], ...],
) -> Change:
    before, after = (float(np.median(side)) if len(side) else None for side in (a, b))
    comparable = not why.startswith(INCOMPARABLE) and before is not None and after is not None
    relative = (after - before) / before if comparable and before and after is not None else None
    verdict = why or "no significant change"
    if p is not None and p < SIGNIFICANT and relative is not None and abs(relative) >= LEAST_CHANGE:
        verdict = "worse" if relative > 0 else "better"
    return Change(metric.name, before, after, relative, p, verdict, phases)


def _by_phase(
    metric: Metric, first: Sequence[RoundRecord], second: Sequence[RoundRecord]
) -> tuple[tuple[str, float], ...]:
    names = dict.fromkeys(name for record in (*first, *second) for name in by_phase(record) if name != ROUND)
    found = []
    for name in names:
        a, b = values(first, metric, name), values(second, metric, name)
        if a and b:
            found.append((name, float(np.median(b) - np.median(a))))
    return tuple(sorted(found, key=lambda item: -abs(item[1])))


def _energy_incomparable(first: Sequence[RoundRecord], second: Sequence[RoundRecord]) -> str | None:
    sources = [
        {record.energy_source for record in rounds if record.energy_source is not None} for rounds in (first, second)
    ]
    for a in sources[0]:
        for b in sources[1]:
            why = why_incomparable(a, b)
            if why:
                return f"{INCOMPARABLE}: {why}"
    return None


def _warnings(first: Sequence[RoundRecord], second: Sequence[RoundRecord]) -> list[str]:
    found = []
    for what, read in _CIRCUMSTANCES:
        kinds = [sorted({read(record) for record in rounds}) for rounds in (first, second)]
        if kinds[0] != kinds[1] and all(kinds):
            found.append(f"different {what}: {' / '.join(kinds[0])} against {' / '.join(kinds[1])}")
    for name, rounds in (("first", first), ("second", second)):
        flagged = sum(bool(record.flags) for record in rounds)
        if flagged:
            flags = sorted({flag for record in rounds for flag in record.flags})
            found.append(f"{flagged} rounds of the {name} run are flagged: {', '.join(flags)}")
    return found
