"""Cost against candidates as an SVG, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 130, 30, 45
LABEL = 14  # between two labels, at least
Points = Sequence[tuple[float, float]]
_COLOURS = ("#0b6e99", "#c05621", "#4a5568")


def save_plot(path: Path, lines: Mapping[str, Points], title: str) -> None:
    """Draw milliseconds over candidates, a line for each name."""
    xs, ys = ([point[axis] for points in lines.values() for point in points] for axis in (0, 1))
    x_decades, y_decades = _decades(xs), _decades(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_decades[0]) / (x_decades[-1] - x_decades[0])
        up = (math.log10(y) - y_decades[0]) / (y_decades[-1] - y_decades[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        '  font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/><text x="{LEFT}" y="18">{title}</text>',
    ]
    for decade in x_decades:
        x, y = place(10**decade, 10 ** y_decades[0])
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{10**decade:,}</text>')
    for decade in y_decades:
        x, y = place(10 ** x_decades[0], 10**decade)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g} ms</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">candidates of one request</text>')
    label_y = math.inf
    coloured = [(name, points, colour) for (name, points), colour in zip(lines.items(), _COLOURS, strict=False)]
    for name, points, colour in sorted(coloured, key=lambda line: line[1][-1][1]):
        placed = [place(*point) for point in points]
        path_data = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path_data}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = placed[-1]
        label_y = min(y + 4, label_y - LABEL)
        parts.append(f'<text x="{x + 6:.1f}" y="{label_y:.1f}" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _decades(values: Sequence[float]) -> range:
    return range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
