"""Memory and disk over a run as an SVG: one panel each, over one axis of events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.endurance.marathon import Look

WIDTH, PANEL, GAP = 640, 150, 34
LEFT, RIGHT, TOP, BOTTOM = 60, 40, 30, 45
_TICKS = 5
_PANELS = (
    ("resident memory of the device's process, MB", "rss_bytes", "#0b6e99"),
    ("its folder on disk, MB", "disk_bytes", "#c05621"),
)


def save_plot(path: Path, looks: Sequence[Look]) -> None:
    """Draw it."""
    height, last = TOP + 2 * PANEL + GAP + BOTTOM, looks[-1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        '  font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, (title, name, colour) in enumerate(_PANELS):
        parts += _panel(looks, name, title, colour, TOP + number * (PANEL + GAP))
    for tick in range(_TICKS + 1):
        x = _across(tick / _TICKS)
        parts.append(f'<text x="{x:.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">'
                     f"{last.events * tick // _TICKS:,}</text>")  # fmt: skip
    caption = f"events, over {last.rounds} rounds and {last.days:.0f} days on the device's clock"
    parts.append(f'<text x="{_across(0.5):.1f}" y="{height - 8}" text-anchor="middle">{caption}</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _panel(looks: Sequence[Look], name: str, title: str, colour: str, top: float) -> list[str]:
    values = [getattr(look, name) / 1e6 for look in looks]
    step = next(step for step in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0) if max(values) <= step * _TICKS)
    parts = [f'<text x="{LEFT}" y="{top - 8:.1f}">{title}</text>']
    for tick in range(_TICKS + 1):
        y = top + PANEL * (1 - tick / _TICKS)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{step * tick:g}</text>')
    placed = [
        (_across(look.events / looks[-1].events), top + PANEL * (1 - value / (step * _TICKS)))
        for look, value in zip(looks, values, strict=True)
    ]
    path_data = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return [*parts, f'<polyline points="{path_data}" fill="none" stroke="{colour}" stroke-width="1.5"/>']


def _across(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)
