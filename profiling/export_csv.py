"""Rounds as CSV: one line a phase of a round, and one for the whole round."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import fields

from profiling.metrics import by_phase
from profiling.record import PhaseRecord, RoundRecord

_ROUND_COLUMNS = ("device", "round_id", "task_version", "board", "decision", "energy_kind", "energy_scope", "flags")
_PHASE_COLUMNS = tuple(f.name for f in fields(PhaseRecord) if f.name not in ("name", "level", "counters"))


def to_csv(rounds: Sequence[RoundRecord]) -> str:
    """The rounds as CSV with a header; what was not measured is an empty cell."""
    counters = sorted({name for record in rounds for phase in record.phases for name in phase.counters})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_ROUND_COLUMNS, "phase", *_PHASE_COLUMNS, *counters])
    for record in rounds:
        head = _head(record)
        for name, phase in by_phase(record).items():
            row = [getattr(phase, column) for column in _PHASE_COLUMNS]
            writer.writerow([*head, name, *row, *(phase.counters.get(counter) for counter in counters)])
    return text.getvalue()


def _head(record: RoundRecord) -> list[object]:
    source = record.energy_source
    kind, scope = (source.kind, source.scope) if source is not None else ("", "")
    board, decision = record.board.get("kind", ""), record.outcome.decision
    return [
        record.device, record.round_id, record.task_version, board, decision, kind, scope, " ".join(record.flags),
    ]  # fmt: skip
