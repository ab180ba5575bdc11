"""What was measured, as tables; and how costs grow."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich import box
from rich.table import Table


def exponents(results: list[dict[str, Any]]) -> dict[str, float]:
    """Of each cost c over n samples, the b of c = a n^b that fits best."""
    names = ("p50_ms", "exact_ms", "restart_s", "forget_s", "index_s", "disk_bytes", "anonymous_bytes")
    fitted = {}
    for name in names:
        points = [(result["samples"], result[name]) for result in results if result[name]]
        if len(points) > 1:
            sizes, costs = np.log(np.array(points, np.float64)).T
            fitted[name] = float(np.polyfit(sizes, costs, 1)[0])
    return fitted


def queries(results: list[dict[str, Any]]) -> Table:
    """How long questions take and what they find, a row for each form of question and size of pool."""
    table = Table(box=box.MARKDOWN)
    for name in (
        "samples",
        "query",
        "p50 ms",
        "p99 ms",
        "bare faiss ms",
        "ratio",
        "at .98 ms",
        "ratio at .98",
        "recall",
        "of 95 in 100",
        "least",
    ):
        table.add_column(name, justify="left" if name == "query" else "right")
    for result in results:
        for q in result["queries"]:
            figures = (
                f"{q.p50_ms:.2f}",
                f"{q.p99_ms:.2f}",
                f"{q.bare_p50_ms:.2f}",
                f"{q.ratio:.2f}",
                "-" if np.isnan(q.equal_p50_ms) else f"{q.equal_p50_ms:.2f}",
                "-" if np.isnan(q.equal_ratio) else f"{q.equal_ratio:.2f}",
                f"{q.recall:.3f}",
                f"{q.recall_p5:.3f}",
                f"{q.recall_least:.3f}",
            )
            table.add_row(f"{result['samples']:,}", q.form, *figures)
    return table


def costs(results: list[dict[str, Any]]) -> Table:
    """What else the pool costs, a row for each size, and the exponents of growth."""
    table, grows = Table(box=box.MARKDOWN), exponents(results)
    columns = {
        "samples": "samples", "intake/s": "intake_per_s", "vectors/s": "embed_per_s", "index s": "index_s",
        "query ms": "p50_ms", "exact ms": "exact_ms", "delete s": "forget_s", "restart s": "restart_s",
        "disk MB": "disk_bytes", "own memory MB": "anonymous_bytes",
    }  # fmt: skip
    for name in columns:
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(*(_figure(name, result[key]) for name, key in columns.items()))
    table.add_row("exponent", *(f"{grows[key]:.2f}" if key in grows else "" for key in [*columns.values()][1:]))
    return table


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("MB"):
        return f"{value / 1e6:,.0f}"
    return f"{value:,.0f}" if isinstance(value, int) or name.endswith("/s") else f"{value:.3f}"
