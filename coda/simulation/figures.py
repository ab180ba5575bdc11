"""What a wave came to, as figures: for a table and for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from coda.simulation.crowd import Found
from coda.simulation.herd import Wave

_PERCENTILES = (50, 95, 99, 99.9)


def figures(found: Found, wave: Wave) -> dict[str, Any]:
    """Plain values; a time that nothing was measured of is None."""
    at_once, later = found.at_once_s, found.after_put_off_s
    answered = len(at_once) + len(later)
    return {
        "offered_per_s": wave.rate,
        "duration_s": wave.duration_s,
        "asked": found.asked,
        "answered_at_once": len(at_once),
        "answered_after_put_off": len(later),
        "answered_per_s": answered / wave.duration_s,
        "while_asking_per_s": found.while_asking / wave.duration_s,
        "put_offs": found.put_offs,
        "still_put_off": found.still_put_off,
        "lost": found.lost,
        "failed": dict(found.faults),
        "occupied": found.occupied,
        "unheard": found.unheard,
        "broken_connections": found.broken,
        "samples_each": found.samples / answered if answered else None,
        "bytes_each": found.size_bytes / answered if answered else None,
        "client_cpu_s": found.cpu_s,
        **{f"p{of:g}_ms": _percentile_ms(at_once, of) for of in _PERCENTILES},
        **{f"after_put_off_p{of:g}_s": _in_s(_percentile_ms(later, of)) for of in (50, 99)},
    }


def rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for a person: name and value with its unit."""

    def text(name: str, value: Any) -> str:
        if value is None:
            return "-"
        if isinstance(value, dict):
            return ", ".join(f"{count} x {why}" for why, count in value.items()) or "0"
        if isinstance(value, float):
            unit = " ms" if name.endswith("_ms") else " s" if name.endswith("_s") and "_per_" not in name else ""
            return f"{value:,.1f}{unit}"
        return f"{value:,}"

    return [
        (name.replace("_per_s", " a second").replace("_", " "), text(name, value)) for name, value in values.items()
    ]


def _percentile_ms(elapsed_s: list[float], of: float) -> float | None:
    return float(np.percentile(elapsed_s, of)) * 1e3 if elapsed_s else None


def _in_s(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1e3
