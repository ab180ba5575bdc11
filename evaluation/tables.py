"""Any table of who did what with which item and when: a CSV, JSON-lines or Parquet file, by its columns' names.

Rows that cannot be used are left out and counted, and the rest goes on. Amazon's 5-core reviews are JSON lines whose
columns are known.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import DataFormatError
from evaluation.interactions import Column, Interactions, build_interactions
from evaluation.reading import Tally
from evaluation.table_columns import FeatureColumn, Ids, Times, as_floats
from evaluation.table_files import Chunk, column_names, read_chunks

_AMAZON = {"user": "reviewerID", "item": "asin", "rating": "overall", "time": "unixReviewTime"}
_KINDS = ("categorical", "multi", "dense")
_MOST_NAMED = 30


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Which column is what.

    Attributes:
        user: Who.
        item: What.
        label: 1 or 0; in its place `rating` may be given, or neither: then every row is a positive.
        rating: A number; liked from `threshold` on.
        time: Seconds, milliseconds and so on since 1970, or ISO 8601; without it, rows count as in time order.
        features: Further columns, each ``name`` or ``name=kind``: categorical, multi or dense.
        threshold: See `rating`; None counts every rating as liked.
        separator: Between the values of a cell of a multi column.
    """

    user: str | None = None
    item: str | None = None
    label: str | None = None
    rating: str | None = None
    time: str | None = None
    features: tuple[str, ...] = ()
    threshold: float | None = None
    separator: str = "|"


def read_table(path: Path, options: TableOptions) -> Interactions:
    """Read a file.

    Args:
        path: Of a kind that `table_files` reads.
        options: Which column is what.

    Raises:
        DataFormatError: If a column is not there, or no row can be used.
    """
    reader = _Reader(path, _resolved(path, options))
    for chunk in read_chunks(path, reader.wanted, reader.tally):
        reader.add(chunk)
    return reader.interactions()


class _Reader:
    """Columns as they grow."""

    def __init__(self, path: Path, options: TableOptions) -> None:
        self.tally = Tally()
        self._path, self._options = path, options
        self._users, self._items, self._times = Ids(), Ids(), Times()
        self._features = [_feature(path, spec, options.separator) for spec in options.features]
        self._value = options.label or options.rating
        self._user: list[NDArray[np.int32]] = []
        self._item: list[NDArray[np.int32]] = []
        self._rating: list[NDArray[np.float64]] = []
        self._row: list[NDArray[np.int64]] = []
        names = [options.user, options.item, self._value, options.time, *(one.name for one in self._features)]
        self.wanted = list(dict.fromkeys(name for name in names if name))

    def add(self, chunk: Chunk) -> None:
        columns, options = chunk.columns, self._options
        self._row.append(np.array(chunk.rows, np.int64))
        self._user.append(self._users.numbers(columns[options.user or ""]))
        self._item.append(self._items.numbers(columns[options.item or ""]))
        self._rating.append(as_floats(columns[self._value]) if self._value else np.ones(len(chunk.rows)))
        self._times.add(columns[options.time] if options.time else chunk.rows)
        for feature in self._features:
            feature.add(columns[feature.name], self.tally)

    def interactions(self) -> Interactions:
        if not self._row or not self.tally.rows:
            raise DataFormatError(self._path, None, "has no rows", "check the file, or name another one with --data")
        user, item = np.concatenate(self._user), np.concatenate(self._item)
        rating, time_s = np.concatenate(self._rating), self._seconds()
        kept = self._kept(user, item, rating, time_s)
        user, item, rating, event_s = user[kept], item[kept], rating[kept], time_s[kept].astype(np.int64)
        columns: list[Column] = [feature.column(kept, item, self.tally) for feature in self._features]
        self.tally.remark("rows stand before an earlier one of the same user; sorted", _out_of_order(user, event_s))
        return build_interactions(
            self._path.name.split(".")[0], user_ids=user, item_ids=item, rating=rating, time_s=event_s,
            genres_of={}, titles=dict(enumerate(self._items.names)), genre_names=(),
            user_names=dict(enumerate(self._users.names)), liked_rating=self._liked_rating(), columns=columns,
            reading=self.tally.reading(),
        )  # fmt: skip

    def _seconds(self) -> NDArray[np.float64]:
        if self._options.time is None:
            self.tally.notes.append("no --time: rows count as in time order")
            return np.concatenate(self._row).astype(np.float64)
        return self._times.seconds(self.tally)

    def _kept(
        self,
        user: NDArray[np.int32],
        item: NDArray[np.int32],
        rating: NDArray[np.float64],
        time_s: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        kept, row = np.ones(len(user), np.bool_), np.concatenate(self._row)
        reasons = [("no user", user < 0), ("no item", item < 0)]
        if self._options.label:
            reasons.append((f"{self._value} is neither 0 nor 1", ~np.isin(rating, (0.0, 1.0))))
        elif self._options.rating:
            reasons.append((f"{self._value} is not a number", ~np.isfinite(rating)))
        reasons.append((f"{self._options.time} is not a time", ~np.isfinite(time_s)))
        for reason, wrong in reasons:
            found = np.flatnonzero(kept & wrong)
            if len(found):
                self.tally.leave_out(reason, int(row[found[0]]), len(found))
            kept &= ~wrong
        if not kept.any():
            told = "; ".join(self.tally.reading().lines())
            raise DataFormatError(self._path, None, f"no row can be used: {told}", "check the names of the columns")
        return kept

    def _liked_rating(self) -> float:
        if self._options.label or not self._value:
            return 0.5
        if self._options.threshold is None:
            self.tally.notes.append("no --threshold: every row counts as a positive")
            return float("-inf")
        return self._options.threshold


def _resolved(path: Path, options: TableOptions) -> TableOptions:
    """The options with columns that are there; Amazon's, where none is named and they are there."""
    names = column_names(path)
    if options.user is None and options.item is None and set(_AMAZON.values()) <= set(names):
        given = {"label": options.label, "threshold": options.threshold, "features": options.features}
        options = TableOptions(**_AMAZON, **given)  # type: ignore[arg-type]
    if options.user is None or options.item is None:
        problem = f"which columns are user and item? There are {_listed(names)}"
        raise DataFormatError(path, None, problem, "give --user and --item, and --rating or --label, and --time")
    features = [spec.split("=")[0] for spec in options.features]
    named = [options.user, options.item, options.label, options.rating, options.time, *features]
    for name in named:
        if name is not None and name not in names:
            close = difflib.get_close_matches(name, names, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise DataFormatError(
                path, None, f"no column {name!r}: there are {_listed(names)}{meant}", "name one of them"
            )
    return options


def _listed(names: list[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _feature(path: Path, spec: str, separator: str) -> FeatureColumn:
    name, _, kind = spec.partition("=")
    if kind and kind not in _KINDS:
        raise DataFormatError(
            path, None, f"feature {spec}: {kind} is no kind", f"use {name}=KIND of {', '.join(_KINDS)}"
        )
    return FeatureColumn(name, kind, separator)


def _out_of_order(user: NDArray[np.int32], time_s: NDArray[np.int64]) -> int:
    order = np.argsort(user, kind="stable")
    same = user[order][1:] == user[order][:-1]
    return int((same & (np.diff(time_s[order]) < 0)).sum())
