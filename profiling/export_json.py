"""A run's statistics as JSON; `profiling/report.schema.json` documents it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from profiling.crosscheck import contradictions
from profiling.run import Run
from profiling.statistics import estimates, settled

SCHEMA_VERSION = 1


def to_dict(run: Run, warm_up: int = 1) -> dict[str, Any]:
    """Medians with intervals of every metric and phase, the energies' sources, and why what is missing is missing."""
    rounds = settled(run.rounds, warm_up)
    sources = dict.fromkeys(energy.source for record in rounds for energy in record.energies)
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run.path.name,
        "rounds": len(rounds),
        "warm_up_excluded": len(run.rounds) - len(rounds),
        "boards": sorted({str(record.board.get("kind", "unknown")) for record in rounds}),
        "emulated": sorted({what for record in rounds for what in record.emulated}),
        "flagged": sum(bool(record.flags) for record in rounds),
        "energy_sources": [asdict(source) for source in sources],
        "contradictions": [f"{record.device}: {sentence}" for record in rounds for sentence in contradictions(record)],
        "estimates": [asdict(value) for value in estimates(rounds)],
        "unmeasured": {name: why for record in reversed(rounds) for name, why in record.unmeasured.items()},
    }
