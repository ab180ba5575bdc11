"""Charts of horizontal rows as inline SVG. Colours are CSS classes, so the page decides on light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDE = 900
NARROW = 350
_TOP = 8
_AXIS = 44
_HALF_TICK = 26  # room for half of the label of a tick at the right end
_DIGIT = 6.6  # width of a character at the chart's 12 px
_LABEL_ROOM = 22  # beside a row's label; short ones of wide letters need it


@dataclass(frozen=True)
class Bar:
    """A bar from ``start`` to ``end`` on the x axis. ``lane`` places it among the row's ``lanes``."""

    start: float
    end: float
    style: str
    title: str
    lane: int = 0
    lanes: int = 1


@dataclass(frozen=True)
class Line:
    """A thin line between two values."""

    start: float
    end: float
    style: str = "rule"


@dataclass(frozen=True)
class Dot:
    """A mark at one value."""

    at: float
    style: str
    title: str
    shape: Literal["disc", "ring", "diamond"] = "disc"


@dataclass(frozen=True)
class Note:
    """Text to the right of a value; ``lane`` as for `Bar`."""

    at: float
    text: str
    lane: int = 0
    lanes: int = 1


Mark = Bar | Line | Dot | Note


@dataclass(frozen=True)
class Row:
    """One row: its label and its marks, drawn in order."""

    label: str
    marks: tuple[Mark, ...]
    strong: bool = False


@dataclass(frozen=True)
class Axis:
    """The x axis.

    Attributes:
        label: What it shows, with the unit.
        low: Value at the left edge.
        high: Value at the right edge.
        text: Formats a tick.
    """

    label: str
    low: float
    high: float
    text: Callable[[float], str]


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most ``most`` round values within ``low`` to ``high``."""
    if not high > low or most < 1:
        return [low]
    rough = (high - low) / most
    base = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = factor * base
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(i * step, 12) for i in range(first, last + 1)]
    return [low]


def row_chart(rows: Sequence[Row], axis: Axis, *, width: int, row_height: int = 26, describe: str = "") -> str:
    """Draw the rows from top to bottom over a common axis.

    Args:
        rows: At least one.
        axis: Its bounds must contain every mark.
        width: Pixels; text keeps its size, so draw once for a desk and once for a phone.
        row_height: Pixels.
        describe: The chart in one sentence, for readers who do not see it.
    """
    left = min(max(len(row.label) for row in rows) * _DIGIT + _LABEL_ROOM, width * 0.38)
    right = width - max(_note_room(rows), _HALF_TICK)
    height = _TOP + row_height * len(rows) + _AXIS
    scale = _Scale(axis.low, axis.high, left, right)
    parts = [_axis(axis, scale, height, width)]
    for i, row in enumerate(rows):
        parts.append(_row(row, scale, _TOP + i * row_height, row_height, left))
    label = escape(describe or axis.label, quote=True)
    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}">'
    return head + "".join(parts) + "</svg>"


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return self.left + (value - self.low) / span * (self.right - self.left)


def _note_room(rows: Sequence[Row]) -> float:
    notes = [len(mark.text) for row in rows for mark in row.marks if isinstance(mark, Note)]
    return max(notes) * _DIGIT + 21 if notes else 0


def _axis(axis: Axis, scale: _Scale, height: int, width: int) -> str:
    bottom = height - _AXIS
    parts = []
    for value in ticks(axis.low, axis.high, max(2, int((scale.right - scale.left) / 68))):
        x = scale(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}">{escape(axis.text(value))}</text>')
    middle = min((scale.left + scale.right) / 2, width - len(axis.label) * _DIGIT / 2 - 4)
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{height - 8}">{escape(axis.label)}</text>')
    return "".join(parts)


def _row(row: Row, scale: _Scale, top: float, height: float, left: float) -> str:
    middle = top + height / 2
    style = "label strong" if row.strong else "label"
    label = f'<text class="{style}" x="{left - 10:.1f}" y="{middle + 4:.1f}">{escape(_shorten(row.label, left))}</text>'
    return label + "".join(_mark(mark, scale, top, height) for mark in row.marks)


def _mark(mark: Mark, scale: _Scale, top: float, height: float) -> str:
    middle = top + height / 2
    if isinstance(mark, Bar):
        return _bar(mark, scale, top, height)
    if isinstance(mark, Line):
        x1, x2 = scale(mark.start), scale(mark.end)
        return f'<line class="{mark.style}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
    if isinstance(mark, Note):
        y = _lane(mark.lane, mark.lanes, top, height)[0] + _lane(mark.lane, mark.lanes, top, height)[1] / 2 + 4
        return f'<text class="note" x="{scale(mark.at) + 9:.1f}" y="{y:.1f}">{escape(mark.text)}</text>'
    return _dot(mark, scale(mark.at), middle)


def _bar(bar: Bar, scale: _Scale, top: float, height: float) -> str:
    x1, x2 = scale(bar.start), scale(bar.end)
    y, thick = _lane(bar.lane, bar.lanes, top, height)
    # A sliver keeps a pixel, so that what exists is seen; a gap of a pixel parts neighbours.
    wide = max(x2 - x1 - 1, 1) if x2 > x1 else 0
    box = f'x="{x1:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{thick:.1f}"'
    return f'<rect class="{bar.style}" {box} rx="1.5"><title>{escape(bar.title)}</title></rect>'


def _dot(dot: Dot, x: float, y: float) -> str:
    title = f"<title>{escape(dot.title)}</title>"
    if dot.shape == "diamond":
        points = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
        return f'<polygon class="{dot.style}" points="{points}">{title}</polygon>'
    kind = " ring" if dot.shape == "ring" else ""
    return f'<circle class="{dot.style}{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5">{title}</circle>'


def _lane(lane: int, lanes: int, top: float, height: float) -> tuple[float, float]:
    """Top and thickness of a lane; the row keeps a margin of 5 pixels above and below."""
    thick = (height - 10) / lanes
    return top + 5 + lane * thick, thick - (1 if lanes > 1 else 0)


def _shorten(label: str, left: float) -> str:
    room = int((left - _LABEL_ROOM) / _DIGIT + 0.5)
    return label if len(label) <= room else label[: max(room - 1, 1)] + "…"
