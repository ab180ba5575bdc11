"""Several runs side by side on one page: medians with intervals, warnings, and what changed from the first to each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from profiling import page, units
from profiling.diff import INCOMPARABLE, TOO_FEW, Change, Diff, diff
from profiling.metrics import METRICS, Metric
from profiling.page import figure
from profiling.plots import Axis, Dot, Line, Note, Row, row_chart
from profiling.report_marks import marks
from profiling.run import Run
from profiling.statistics import Estimate, estimate, settled

_BY_NAME = {metric.name: metric for metric in METRICS}
_AXES: dict[str, tuple[float, str, Callable[[float], str]]] = {
    "s": (1.0, " (s)", lambda value: f"{value:g}"),
    "bytes": (1.0, "", lambda value: units.tick(units.size(value))),
    "mj": (1e-3, " (J)", lambda value: f"{value:g}"),
}


def write_comparison(runs: Sequence[Run], path: Path, warm_up: int = 1) -> Path:
    """Write the page of two or more runs to ``path`` and return it."""
    path.write_text(render_comparison(runs, warm_up), encoding="utf-8")
    return path


def render_comparison(runs: Sequence[Run], warm_up: int = 1) -> str:
    """The page as HTML. Each device's first ``warm_up`` rounds are left out where it has more.

    Raises:
        ValueError: If there are fewer than two runs.
    """
    if len(runs) < 2:
        raise ValueError(f"a comparison needs at least two runs, got {len(runs)}")
    diffs = [diff(runs[0], run, warm_up) for run in runs[1:]]
    names = _names(runs)
    parts = [f"<h1>{len(runs)} runs compared</h1>", page.paragraph(_intro(names), "muted"), marks(runs)]
    for name, found in zip(names[1:], diffs, strict=True):
        parts.append(page.section(headline(found, names[0], name), *_warnings(found), _diff_table(found)))
    for metric in METRICS:
        rows = [estimate(settled(run.rounds, warm_up), metric) for run in runs]
        if any(row.median is not None for row in rows):
            title = f"{metric.label[0].upper()}{metric.label[1:]} a round"
            parts.append(page.section(title, _figure_of(metric, names, rows, diffs)))
    return page.page("CoDA Edge runs compared", "".join(parts), "CoDA Edge.")


def headline(found: Diff, before: str, after: str) -> str:
    """The finding in one sentence."""
    said = []
    for verdict, word in (("worse", "more"), ("better", "less")):
        changes = [change for change in found.changes if change.verdict == verdict]
        said += [f"{abs(change.relative or 0):.0%} {word} {_BY_NAME[change.metric].label}" for change in changes]
    if not said and any(change.verdict == TOO_FEW for change in found.changes):
        return f"Too few rounds to tell whether {after} costs more or less than {before}"
    if not said:
        return f"{after} costs neither significantly more nor less than {before}"
    return f"Against {before}, {after} takes {', '.join(said)}"


def diff_markdown(found: Diff, before: str, after: str) -> str:
    """The comparison of two runs as Markdown."""
    lines = [f"**{headline(found, before, after)}.**", ""]
    lines += [f"- Warning: {warning}" for warning in found.warnings] + ([""] if found.warnings else [])
    lines += [f"| cost | {before} | {after} | change | adjusted p | verdict | most of it in |", "| --- " * 7 + "|"]
    lines += ["| " + " | ".join(_cells(change)) + " |" for change in found.changes]
    return "\n".join(lines) + "\n"


def _names(runs: Sequence[Run]) -> list[str]:
    names = [run.path.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _intro(names: Sequence[str]) -> str:
    return (
        f"{names[0]} (before) is compared with {', '.join(names[1:])} (after). Each cost of a whole round is tested: "
        "the smaller p, the less likely is it that chance alone made the difference; p is adjusted, since several "
        "costs are tested. A change under 2% is not called one."
    )


def _warnings(found: Diff) -> list[str]:
    how = "Each device is compared with itself." if found.paired else "The runs have different devices."
    return [page.banner("Take care:", warning) for warning in found.warnings] + [page.paragraph(how, "muted")]


def _diff_table(found: Diff) -> str:
    heads = [page.Column("cost", words=True)]
    heads += [page.Column(name) for name in ("before", "after", "change", "adjusted p")]
    heads += [page.Column("verdict", words=True), page.Column("most of it in", words=True)]
    worse = [place for place, change in enumerate(found.changes) if change.verdict == "worse"]
    return page.table(heads, [_cells(change) for change in found.changes], worse)


def _cells(change: Change) -> list[str]:
    metric = _BY_NAME[change.metric]
    relative = "\u2013" if change.relative is None else f"{change.relative:+.1%}".replace("-", "\u2212")
    p = "\u2013" if change.p is None else f"{change.p:.3f}"
    where = change.phases[0][0] if change.phases and change.verdict in ("worse", "better") else ""
    return [metric.label, metric.text(change.before), metric.text(change.after), relative, p, change.verdict, where]


def _figure_of(metric: Metric, names: Sequence[str], rows: Sequence[Estimate], diffs: Sequence[Diff]) -> str:
    """The chart, or why there must be none: energies of different kinds or scopes are not ranked."""
    verdicts = {change.verdict for found in diffs for change in found.changes if change.metric == metric.name}
    refused = sorted(verdict for verdict in verdicts if verdict.startswith(INCOMPARABLE))
    if refused:
        return page.banner("Not compared:", "; ".join(refused))
    note = "Dot: median over rounds. Line: its 95% bootstrap interval."
    return page.paragraph(note, "muted") + _chart(metric, names, rows)


def _chart(metric: Metric, names: Sequence[str], estimates: Sequence[Estimate]) -> str:
    scale, unit, text = _AXES[metric.name.rsplit("_", 1)[1]]
    rows, highest = [], 0.0
    for name, found in zip(names, estimates, strict=True):
        marks: list[Line | Dot | Note] = []
        if found.median is not None:
            if found.low is not None and found.high is not None:
                marks.append(Line(found.low * scale, found.high * scale, "range"))
            marks.append(Dot(found.median * scale, "s-coda", f"{name}: {metric.text(found.median)}"))
            end = (found.high or found.median) * scale
            marks.append(Note(end, metric.text(found.median)))
            highest = max(highest, end)
        rows.append(Row(name, tuple(marks)))
    axis = Axis(f"{metric.label}{unit}", 0, highest * 1.02 or 1.0, text)
    return figure(lambda width: row_chart(rows, axis, width=width, describe=f"{metric.label} of each run"))
