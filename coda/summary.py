"""What a run came to: `summary.json`, `rounds.jsonl`, and the table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from profiling.record import RoundRecord
from profiling.run import ROUNDS_FILE, SUMMARY_FILE

MODELS = ("cloud", "local", "coda")
_COSTS = (
    "elapsed_s",
    "cpu_user_s",
    "cpu_system_s",
    "peak_rss_bytes",
    "payload_up_bytes",
    "payload_down_bytes",
    "mqtt_up_bytes",
    "mqtt_down_bytes",
    "tcp_up_bytes",
    "tcp_down_bytes",
    "energy_mj",
)
_COUNTS = ("samples_local", "samples_matched", "samples_kept")

Row = dict[str, Any]


def device_row(record: RoundRecord, auc: Mapping[str, float | None]) -> Row:
    """One device's line of the summary.

    Args:
        record: Its round.
        auc: Test AUC by model, of `MODELS`; None where its test samples are all of one class.
    """
    totals = record.totals
    return {
        "device": record.device,
        "round_id": record.round_id,
        **{name: getattr(record.outcome, name) for name in _COUNTS},
        "auc": {model: auc.get(model) for model in MODELS},
        "decision": record.outcome.decision,
        "reason": record.outcome.reason,
        **{name: getattr(totals, name) for name in _COSTS},
        "energy_reason": record.unmeasured.get("energy"),
    }


def mean_row(rows: Sequence[Row]) -> Row:
    """Mean of every number over the devices that have it; None where none has."""
    mean: Row = {name: _mean(row[name] for row in rows) for name in (*_COUNTS, *_COSTS)}
    mean["auc"] = {model: _mean(row["auc"][model] for row in rows) for model in MODELS}
    return mean


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def write_run(run_dir: Path, summary: Mapping[str, Any], records: Sequence[RoundRecord]) -> tuple[Path, Path]:
    """Write ``summary.json`` and ``rounds.jsonl``, one RoundRecord a line, and return their paths."""
    rounds_file, summary_file = run_dir / ROUNDS_FILE, run_dir / SUMMARY_FILE
    lines = [json.dumps(record.to_dict(), sort_keys=True, allow_nan=False) for record in records]
    rounds_file.write_text("\n".join(lines) + "\n")
    summary_file.write_text(json.dumps(summary, indent=2, sort_keys=True, allow_nan=False) + "\n")
    return summary_file, rounds_file


def summary_table(rows: Sequence[Row], mean: Row) -> Table:
    """The devices and their mean, for a terminal of 80 columns."""
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("\n\ndevice", no_wrap=True)
    table.add_column("samples\nlocal/matched\n/kept", justify="right", no_wrap=True)
    for model in MODELS:
        table.add_column(f"test\nAUC\n{model}", justify="right", no_wrap=True)
    table.add_column("\n\ngate", max_width=9)
    headings = ["\ntime\ns", "\nCPU\ns", "peak\nRSS\nMB", "\nup\nkB", "\ndown\nkB"]
    if mean["energy_mj"] is not None:
        headings.append("\nenergy\nJ")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["device"], *_cells(row, row["decision"])[: len(table.columns) - 1])
    table.add_section()
    table.add_row("mean", *_cells(mean, "")[: len(table.columns) - 1], style="bold")
    return table


def _cells(row: Row, decision: str) -> list[str]:
    cpu_s = None if row["cpu_user_s"] is None else row["cpu_user_s"] + row["cpu_system_s"]
    return [
        "/".join(_number(row[name], "{:.0f}") for name in _COUNTS),
        *(_number(row["auc"][model], "{:.3f}") for model in MODELS),
        decision,
        _number(row["elapsed_s"], "{:.2f}"),
        _number(cpu_s, "{:.2f}"),
        _number(row["peak_rss_bytes"], "{:.0f}", 1e6),
        _number(row["mqtt_up_bytes"], "{:.1f}", 1e3),
        _number(row["mqtt_down_bytes"], "{:.0f}", 1e3),
        _number(row["energy_mj"], "{:.2f}", 1e3),
    ]


def _number(value: float | None, form: str, unit: float = 1.0) -> str:
    return "n/a" if value is None else form.format(value / unit)
