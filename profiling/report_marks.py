"""What a reader must know before believing any number of some runs: that they are made up, or emulated."""

from __future__ import annotations

from collections.abc import Sequence

from profiling import page
from profiling.run import Run
from profiling.summary import mapping


def marks(runs: Sequence[Run]) -> str:
    """Banners for what holds of any of the runs; empty where all is real."""
    parts = []
    if any(mapping(run.summary, "data").get("synthetic") for run in runs):
        text = "Users and ratings were drawn by a generator. Scores say that the machinery works, not how well it does."
        parts.append(page.banner("Synthetic data.", text))
    if any(recording.synthetic for run in runs for recording in run.recordings):
        parts.append(page.banner("Synthetic recordings.", "Powers and times were made by a generator, on no board."))
    emulated = sorted({what for run in runs for record in run.rounds for what in record.emulated})
    if emulated:
        parts.append(page.banner("Emulated:", f"{', '.join(emulated)}: times and energies are no real board's."))
    return "".join(parts)
