"""`coda report`: runs as a page that anyone can read, or in other tools' formats, and what changed between two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from profiling.run import Run

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class RunsOrCommand(TyperGroup):
    """What does not begin with a sub-command's name is a call of `DEFAULT`; a run of such a name is ./NAME."""

    DEFAULT = "write"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command's name in front where none is given."""
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else [self.DEFAULT, *args])


app = typer.Typer(cls=RunsOrCommand, help="A run as a page that anyone can read; runs side by side.")


@app.command(name=RunsOrCommand.DEFAULT, epilog="Example:  coda report runs/demo-20261121-101500")
def write(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Folders of runs; the newest under runs/ by default.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="html, md, csv, json, prometheus, or perfetto for ui.perfetto.dev.")
    ] = "html",
    out: Annotated[
        Path | None,
        typer.Option(help="File to write. By default a page goes to the run's report.html, text to standard output."),
    ] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute energies again from the raw samples of the run.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a run's page, or several runs' side by side, from their files alone.

    `coda report diff A B` says what got significantly worse from one run to another.
    """
    from coda.errors import UsageError

    found = [_load(folder, recompute=recompute) for folder in runs or [newest_run(Path("runs"))]]
    exports = _exports()
    if form != "html" and form not in exports:
        raise UsageError(f"--format {form}: use html, {', '.join(exports)}")
    if form == "html":
        _write_page(found, out, as_json)
        return
    if as_json or len(found) > 1:
        raise UsageError(f"--format {form} prints one run, and takes no --json; several runs make an html page")
    _write_text(exports[form](found[0]), out)


@app.command(epilog="Example:  coda report diff runs/before runs/after")
def diff(
    before: Annotated[Path, typer.Argument(help="Folder of a run.")],
    after: Annotated[Path, typer.Argument(help="Folder of the run to compare with it.")],
    as_json: JsonOption = False,
) -> None:
    """Say what got significantly worse or better from one run to another, and in which phase."""
    from rich.markdown import Markdown

    from coda.output import print_json, results
    from profiling.comparison import diff_markdown
    from profiling.diff import diff as compare

    found = compare(_load(before), _load(after))
    if as_json:
        print_json(found.to_dict())
        return
    text = diff_markdown(found, str(before), str(after))
    if results.is_terminal:
        results.print(Markdown(text))
    else:
        results.print(text, markup=False, end="")


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


def _write_page(found: list[Run], out: Path | None, as_json: bool) -> None:
    from coda.output import print_json, results
    from profiling.comparison import write_comparison
    from profiling.report import REPORT_FILE, render

    if len(found) > 1:
        path = write_comparison(found, out or Path("comparison.html"))
        said: Mapping[str, Any] = {"runs": [str(run.path) for run in found]}
    else:
        path = out or found[0].path / REPORT_FILE
        path.write_text(render(found[0]), encoding="utf-8")
        said = found[0].summary
    if as_json:
        print_json({**said, "report": str(path)})
    else:
        results.print(f"report: {path}", markup=False)


def _exports() -> dict[str, Callable[[Run], str]]:
    """What makes a run a text, by the format's name."""
    import json

    from profiling import export_json
    from profiling.export_csv import to_csv
    from profiling.export_markdown import to_markdown
    from profiling.export_prometheus import to_prometheus

    return {
        "md": to_markdown,
        "csv": lambda run: to_csv(run.rounds),
        "json": lambda run: json.dumps(export_json.to_dict(run), indent=2, allow_nan=False) + "\n",
        "prometheus": lambda run: to_prometheus(run.rounds),
        "perfetto": _perfetto,
    }


def _perfetto(run: Run) -> str:
    from profiling.errors import RunError
    from profiling.export_perfetto import to_perfetto

    if not run.recordings:
        raise RunError(
            f"{run.path}: no raw samples to trace; name a folder as `recordings` in the devices' configuration"
        )
    return to_perfetto(run.recordings) + "\n"


def _write_text(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


def _load(folder: Path, *, recompute: bool = False) -> Run:
    from profiling.replay import recompute_run
    from profiling.run import load_run

    run = load_run(folder)
    return recompute_run(run) if recompute else run
