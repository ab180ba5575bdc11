"""What a device says of itself and of its rounds."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from edge.learning.runtime import load_runtime
from edge.storage.round_store import StoredRound
from hardware.board import Board
from profiling.record import Outcome, PhaseRecord, RoundRecord
from protocol.messages import Hello


def round_record(
    stored: StoredRound,
    outcome: Outcome,
    phases: Sequence[PhaseRecord],
    *,
    device: str,
    board: Board,
    runtime: str | None,
    measured: Mapping[str, Any],
) -> RoundRecord:
    """What a round did and cost; ``measured`` as `profiling.window.Profiler.round_fields` gives it."""
    return RoundRecord(
        round_id=stored.round_id,
        device=device,
        task_version=stored.task.version,
        started_unix_s=stored.started_unix_s,
        board=board.to_dict(),
        software=software(runtime),
        phases=tuple(phases),
        outcome=outcome,
        emulated=("instruction set",) if board.emulated else (),
        **measured,
    )


def software_version() -> str:
    """This distribution's version; "unknown" where it runs from a folder without being installed."""
    try:
        return metadata.version("coda-edge")
    except metadata.PackageNotFoundError:
        return "unknown"


def software(runtime: str | None) -> dict[str, str]:
    """Versions by name, as a round record states them."""
    found = load_runtime(runtime)
    return {
        "coda-edge": software_version(),
        "python": platform.python_version(),
        "runtime": found.name,
        "runtime-version": found.version,
    }


def hello(runtime: str | None, board: Board, models: tuple[str, ...]) -> Hello:
    """The greeting of a device that holds these model files."""
    found = load_runtime(runtime)
    return Hello(software_version(), f"{found.name} {found.version}", board.model, models)
