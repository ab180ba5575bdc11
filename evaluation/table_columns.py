"""Columns of a table to numbers: ids, ratings, times and features, a chunk at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date, datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.interactions import Column
from evaluation.reading import Tally
from protocol.schema import RESERVED_NAMES, Feature, FeatureKind

MOST_SEVERAL = 6
# A column is its item's if so many rows say of an item what its first row says.
_OF_ITEM = 0.99
# A column is dense if more than so many of its cells are numbers, and one of them is no whole one.
_NUMBERS = 0.95
_TAKEN = {"item", "genres", "liked", "disliked"}
_UNITS = (("seconds", 1.0, 1e11), ("milliseconds", 1e3, 1e14), ("microseconds", 1e6, 1e17), ("nanoseconds", 1e9, 1e20))
_LAST_S = 1e12  # thirty thousand years
_TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


class Ids:
    """Numbers names densely from ``first``, in the order in which they occur; a missing name is ``first - 1``."""

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._number: dict[Any, int] = dict.fromkeys(("", None), first - 1)

    def numbers(self, values: Sequence[Any]) -> NDArray[np.int32]:
        """Each value's number, int32 [n]."""
        number, shift = self._number, self._first - 2
        return np.array([number.setdefault(value, len(number) + shift) for value in values], np.int32)

    @property
    def names(self) -> list[str]:
        """What has been numbered, in order."""
        return [str(name) for name in list(self._number)[2:]]


def as_floats(values: Sequence[Any]) -> NDArray[np.float64]:
    """float64 [n], NaN where a value is no number; ``true`` and ``false`` count as 1 and 0."""
    try:
        return np.array(list(map(float, values)), np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([_as_float(value) for value in values], np.float64)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return _TRUTH.get(str(value).strip().lower(), math.nan)


class Times:
    """Unix seconds from numbers of any common unit, or from ISO 8601 text and dates."""

    def __init__(self) -> None:
        self._values: list[NDArray[np.float64]] = []
        self._dates: list[NDArray[np.bool_]] = []

    def add(self, values: Sequence[Any]) -> None:
        """Read a chunk."""
        found = as_floats(values)
        missing = np.flatnonzero(~np.isfinite(found))
        dates = np.zeros(len(found), np.bool_)
        for place in missing:
            found[place] = _date_s(values[place])
            dates[place] = bool(np.isfinite(found[place]))
        self._values.append(found)
        self._dates.append(dates)

    def seconds(self, tally: Tally) -> NDArray[np.float64]:
        """float64 [n], whole seconds; NaN where there is no time. The unit is that of the middle of all numbers."""
        found, dates = np.concatenate(self._values), np.concatenate(self._dates)
        numbers = np.abs(found[~dates & np.isfinite(found)])
        if len(numbers):
            middle = float(np.median(numbers))
            unit, divisor, _ = next((one for one in _UNITS if middle < one[2]), _UNITS[-1])
            found[~dates] /= divisor
            if divisor > 1:
                tally.notes.append(f"times were read as {unit}")
        found[np.abs(found) > _LAST_S] = np.nan
        tally.remark("rows have a time before 1970", int((found < 0).sum()))
        return np.floor(found)


def _date_s(value: Any) -> float:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day)
    else:
        try:
            moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", str(value).strip()))
        except ValueError:
            return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


class FeatureColumn:
    """One further column.

    Args:
        name: In the file.
        kind: ``categorical``, ``multi`` or ``dense``; "" looks at the first chunk.
        separator: Between the values of a cell, where it holds several.
    """

    def __init__(self, name: str, kind: str, separator: str) -> None:
        self.name = name
        self.kind = kind
        self._separator = separator
        self._ids = Ids(1)
        self._pieces: list[NDArray[Any]] = []

    def add(self, values: Sequence[Any], tally: Tally) -> None:
        """Read a chunk."""
        self.kind = self.kind or _guess(values, self._separator)
        if self.kind == "dense":
            found = as_floats(values).astype(np.float32)
            self._pieces.append(np.where(np.isfinite(found), found, np.float32(np.nan)))
        elif self.kind == "multi":
            self._pieces.append(self._several(values, tally))
        else:
            self._pieces.append(self._ids.numbers(values))

    def column(self, kept: NDArray[np.bool_], item: NDArray[np.int32], tally: Tally) -> Column:
        """The rows that were kept, as a feature.

        Args:
            kept: bool [rows read].
            item: int32 [rows kept].
            tally: Told of values that are no number.
        """
        values = np.concatenate(self._pieces)[kept]
        of_item = _belongs_to(item, values)
        tally.notes.append(f"feature {self.name}: {self.kind}, of the {'item' if of_item else 'event'}")
        if self.kind == "dense":
            return Column(self._feature(FeatureKind.DENSE, 1), self._scaled(values, tally), of_item)
        if self.kind == "multi":
            return Column(self._feature(FeatureKind.MULTIVALUED, MOST_SEVERAL), values, of_item)
        return Column(self._feature(FeatureKind.CATEGORICAL, 1), values, of_item)

    def _several(self, values: Sequence[Any], tally: Tally) -> NDArray[np.int32]:
        found = np.zeros((len(values), MOST_SEVERAL), np.int32)
        cut = 0
        for row, value in enumerate(values):
            parts = value if isinstance(value, (list, tuple)) else str(value or "").split(self._separator)
            numbers = self._ids.numbers([part for part in parts if part])
            cut += len(numbers) > MOST_SEVERAL
            found[row, : min(len(numbers), MOST_SEVERAL)] = numbers[:MOST_SEVERAL]
        tally.remark(f"cells of {self.name} hold more than {MOST_SEVERAL} values; the first {MOST_SEVERAL} count", cut)
        return found

    def _scaled(self, values: NDArray[np.float32], tally: Tally) -> NDArray[np.float32]:
        known = np.isfinite(values)
        tally.remark(f"cells of {self.name} are no number, read as its mean", int((~known).sum()))
        mean, deviation = (float(values[known].mean()), float(values[known].std())) if known.any() else (0.0, 0.0)
        return np.where(known, (values - mean) / (deviation or 1.0), 0.0).astype(np.float32)[:, np.newaxis]

    def _feature(self, kind: FeatureKind, length: int) -> Feature:
        name = re.sub(r"\W", "_", self.name)
        if not name.isidentifier() or name in RESERVED_NAMES or name in _TAKEN:
            name = f"f_{name}"
        if kind is FeatureKind.DENSE:
            return Feature(name, kind, length)
        return Feature(name, kind, length, max(2, len(self._ids.names) + 1), name)


def _guess(values: Sequence[Any], separator: str) -> str:
    if any(isinstance(value, (list, tuple)) or (isinstance(value, str) and separator in value) for value in values):
        return "multi"
    known = [value for value in values if value not in (None, "")]
    numbers = as_floats(known)
    finite = numbers[np.isfinite(numbers)]
    dense = len(finite) > _NUMBERS * len(known) and bool((finite != np.floor(finite)).any())
    return "dense" if dense else "categorical"


def _belongs_to(item: NDArray[np.int32], values: NDArray[Any]) -> bool:
    if len(item) == 0:
        return False
    _, first, place = np.unique(item, return_index=True, return_inverse=True)
    same = values == values[first[place]]
    if values.dtype.kind == "f":
        same |= np.isnan(values)
    return bool((same if values.ndim == 1 else same.all(axis=1)).mean() >= _OF_ITEM)
