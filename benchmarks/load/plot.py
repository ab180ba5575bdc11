"""What is answered a second against the number of workers, as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 30, 40, 50
_TICKS = 5


def save_plot(path: Path, points: Sequence[tuple[int, float]], title: str) -> None:
    """Draw answers a second over workers, and what as many times the first would be."""
    most_workers = max(workers for workers, _ in points)
    top = _round_up(max(points[0][1] * most_workers, *(rate for _, rate in points)))

    def place(workers: float, rate: float) -> tuple[float, float]:
        across = workers / most_workers * (WIDTH - LEFT - RIGHT)
        return LEFT + across, HEIGHT - BOTTOM - rate / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        '  font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/><text x="{LEFT}" y="20">{title}</text>',
    ]
    for tick in range(_TICKS + 1):
        _, y = place(0, tick * top / _TICKS)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * top / _TICKS:g}</text>')
    for workers, _ in points:
        x, y = place(workers, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{workers}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">workers</text>')
    straight = [place(0, 0), place(most_workers, points[0][1] * most_workers)]
    parts.append(_line(straight, 'stroke="#a0aec0" stroke-dasharray="4 4"'))
    placed = [place(*point) for point in points]
    parts.append(_line(placed, 'stroke="#0b6e99" stroke-width="2"'))
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#0b6e99"/>' for x, y in placed]
    parts += [
        f'<text x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle" fill="#0b6e99">{rate:.0f}</text>'
        for (x, y), (_, rate) in zip(placed, points, strict=True)
    ]
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _line(points: Sequence[tuple[float, float]], style: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" {style}/>'


def _round_up(value: float) -> float:
    step = 10.0 ** (len(str(int(max(value, 1)))) - 1) / 2
    return -(-value // step) * step
