"""`coda report`: a run as a page that anyone can read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example:  coda report runs/demo-20261121-101500"


def report(
    run: Annotated[Path | None, typer.Argument(help="Folder of a run; the newest under runs/ by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's summary as JSON.")] = False,
) -> None:
    """Write report.html for a run from its summary.json and rounds.jsonl."""
    from coda.output import print_json, results
    from profiling.report import load_run, write_report

    folder = run or newest_run(Path("runs"))
    written = write_report(folder)
    if as_json:
        print_json({**load_run(folder).summary, "report": str(written)})
    else:
        results.print(f"report: {written}")


def newest_run(runs: Path) -> Path:
    """The run that ended last.

    Raises:
        UsageError: If there is none.
    """
    from coda.errors import UsageError

    ended = sorted(runs.glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
    if not ended:
        raise UsageError(f"no run under {runs.resolve()}; make one with `coda demo`, or name a run's folder")
    return ended[-1].parent
