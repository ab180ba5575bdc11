"""What a reader must know before believing any number of some runs: that they are made up, or emulated."""

from __future__ import annotations

from collections.abc import Sequence

from profiling import page
from profiling.run import Run
from profiling.summary import mapping


def marks(runs: Sequence[Run]) -> str:
    """Banners for what holds of any of the runs; empty where all is real."""
    made_up = [any(recording.synthetic for recording in run.recordings) for run in runs]
    if any(made_up):
        which = "Everything here was" if all(made_up) else "Powers and times of a run here were"
        parts = [page.banner("Synthetic recordings.", f"{which} made by a generator; no board was measured.")]
    else:
        parts = []
    runs = [run for run, is_made_up in zip(runs, made_up, strict=True) if not is_made_up]
    if any(mapping(run.summary, "data").get("synthetic") for run in runs):
        text = "Users and ratings were drawn by a generator. Scores say that the machinery works, not how well it does."
        parts.append(page.banner("Synthetic data.", text))
    emulated = sorted({what for run in runs for record in run.rounds for what in record.emulated})
    if emulated:
        parts.append(page.banner("Emulated:", f"{', '.join(emulated)}: times and energies are no real board's."))
    return "".join(parts)
