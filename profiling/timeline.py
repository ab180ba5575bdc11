"""Charts over time of one recorded round: power, processor, memory and bytes, with the phases as bands above."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from profiling import units
from profiling.figures import style
from profiling.page import figure
from profiling.plots import ticks
from profiling.recording import RecordedSeries, Recording

_HEIGHT, _TOP, _BOTTOM, _LEFT, _RIGHT = 190, 26, 40, 62, 12
_MOST_POINTS = 400
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Kind:
    """How a series is shown: what to call it, its rate or its value, and how a tick is written."""

    prefix: str
    label: str
    is_rate: bool
    scale: float
    text: Callable[[float], str]


_KINDS = (
    _Kind("power_mw:", "power (W)", False, 1e-3, lambda v: f"{v:g}"),
    _Kind("energy_mj:", "power (W)", True, 1e-3, lambda v: f"{v:g}"),
    _Kind("cpu_s", "processors busy", True, 1.0, lambda v: f"{v:g}"),
    _Kind("rss_bytes", "resident memory (MB)", False, 1e-6, lambda v: f"{v:g}"),
    _Kind("mqtt_bytes", "MQTT bytes a second", True, 1.0, lambda v: units.tick(units.size(v))),
    _Kind("temperature_c", "temperature (°C)", False, 1.0, lambda v: f"{v:g}"),
)


def timelines(recording: Recording) -> list[tuple[str, str]]:
    """A title and a figure for every series of the recording that a person wants to see."""
    found: list[tuple[str, str]] = []
    for kind in _KINDS:
        for series in recording.series:
            points = _points(series, kind) if series.name.startswith(kind.prefix) else []
            if len(points) > 1:
                source = series.name.partition(":")[2]
                title = f"{kind.label}, {source}" if source else kind.label
                found.append((title, _figure(recording, kind, points, with_legend=not found)))
    return found


def thin(points: Points, most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """At most ``most`` points that keep every peak and trough: the lowest and highest of each stretch."""
    if len(points) <= most:
        return list(points)
    size = -(-len(points) // (most // 2))
    kept = []
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def _points(series: RecordedSeries, kind: _Kind) -> list[tuple[float, float]]:
    pairs = list(zip(series.times_s, series.values, strict=True))
    if kind.is_rate:
        steps = [(a, b) for a, b in pairwise(pairs) if b[0] - a[0] > 0.01]  # edges sample twice within a moment
        pairs = [((a[0] + b[0]) / 2, (b[1] - a[1]) / (b[0] - a[0])) for a, b in steps]
    return thin([(at_s, value * kind.scale) for at_s, value in pairs])


def _figure(recording: Recording, kind: _Kind, points: Points, *, with_legend: bool) -> str:
    bands = [(p.name, p.begin_s, p.end_s) for p in recording.phases if p.level == 0]
    legend = [(style(name), "square", name) for name in dict.fromkeys(name for name, _, _ in bands) if with_legend]
    return figure(lambda width: _chart(points, bands, kind, width), legend)


def _chart(points: Points, bands: Sequence[tuple[str, float, float]], kind: _Kind, width: int) -> str:
    low_s, high_s = min(0.0, points[0][0]), max(points[-1][0], *(end for _, _, end in bands), 0.001)
    high = max(value for _, value in points) * 1.08 or 1.0

    def x(at_s: float) -> float:
        return _LEFT + (at_s - low_s) / (high_s - low_s) * (width - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - max(value, 0.0) / high * (_HEIGHT - _BOTTOM - _TOP)

    parts = [_band(name, x(begin), x(end)) for name, begin, end in bands]
    for value in ticks(0, high, 4):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text class="label" x="{_LEFT - 8}" y="{y(value) + 4:.1f}">{escape(kind.text(value))}</text>')
    for at_s in ticks(low_s, high_s, max(2, width // 90)):
        parts.append(f'<text class="tick" x="{x(at_s):.1f}" y="{_HEIGHT - _BOTTOM + 16}">{at_s:g}</text>')
    parts.append(
        f'<text class="axis" x="{(width + _LEFT) / 2:.1f}" y="{_HEIGHT - 6}">seconds since the round began</text>'
    )
    line = " ".join(f"{x(at_s):.1f},{y(value):.1f}" for at_s, value in points)
    parts.append(f'<polyline class="trace" points="{line}"/>')
    label = escape(f"{kind.label} over time", quote=True)
    head = f'<svg viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}" role="img" aria-label="{label}">'
    return head + "".join(parts) + "</svg>"


def _band(name: str, left: float, right: float) -> str:
    wide = max(right - left - 1, 0.5)
    title = f"<title>{escape(name)}</title>"
    return f'<rect class="{style(name)}" x="{left:.1f}" y="6" width="{wide:.1f}" height="10" rx="1.5">{title}</rect>'
