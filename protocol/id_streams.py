"""Ids of one table as streams close to their entropy: which occur at all, how often, and then one byte and bits each.

The ids that occur are listed once, ascending, each with a frequency class. Within a class they count as equally
frequent, so an id is a bucket, which zstd or zlib codes by its own frequency, and a place in it, which nothing could
shorten. A class of 13 ids is buckets of 8, 4 and 1: places then take whole bits without waste.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.errors import MalformedMessageError
from protocol.streams import StreamReader, StreamWriter

Ids = NDArray[np.int32]

_MAX_CLASSES = 36
_BUCKETS_PER_CLASS = 7  # 36 * 7 buckets fit a byte; the last of a class may have room to spare


def write_ids(writer: StreamWriter, parts: Sequence[Ids]) -> None:
    """Write several arrays of ids that look up the same table."""
    ids, counts = np.unique(np.concatenate(parts), return_counts=True)
    levels = np.floor(np.log2(counts)).astype(np.int64).clip(0, _MAX_CLASSES - 1)
    present = np.unique(levels)[::-1]
    classes = np.searchsorted(-present, -levels)  # 0 for the most frequent
    writer.numbers(np.array([len(ids), len(present)]))
    gaps = np.diff(ids.astype(np.int64), prepend=-1) - 1
    writer.numbers(gaps * len(present) + classes)
    book = _Book.of(ids, classes, len(present))
    rank_of = np.empty(len(ids), np.int64)
    rank_of[book.order] = np.arange(len(ids))
    for part in parts:
        ranks = rank_of[np.searchsorted(ids, part)]
        buckets = (np.searchsorted(book.starts, ranks, side="right") - 1).astype(np.uint8)
        writer.classified(buckets, (ranks - book.starts[buckets]).astype(np.uint64), book.widths)


def read_ids(reader: StreamReader, counts: Sequence[int], vocabulary: int) -> list[Ids]:
    """Read arrays of ``counts`` ids each, all below ``vocabulary``.

    Raises:
        MalformedMessageError: If that is not what the streams hold.
    """
    distinct, classes = (int(number) for number in reader.numbers(2))
    if distinct > min(sum(counts), vocabulary) or classes > min(_MAX_CLASSES, distinct) or (distinct and not classes):
        raise MalformedMessageError(f"batch: {distinct} ids in {classes} classes for {sum(counts)} places")
    listed = reader.numbers(distinct)
    if distinct and int(listed.max()) >= vocabulary * classes:
        raise MalformedMessageError(f"batch: an id is outside its vocabulary of {vocabulary}")
    listed = listed.astype(np.int64)
    ids = np.cumsum(listed // max(classes, 1) + 1) - 1
    if distinct and ids[-1] >= vocabulary:
        raise MalformedMessageError(f"batch: an id is outside its vocabulary of {vocabulary}")
    book = _Book.of(ids, listed % max(classes, 1), classes)
    return [book.read(reader, count) for count in counts]


@dataclass(frozen=True)
class _Book:
    """Ids in the order of their ranks, and where buckets begin.

    Attributes:
        ids: Ascending.
        order: The id at each rank, as its place in ``ids``.
        starts: First rank of each bucket.
        widths: Bits of a place in each bucket, [256].
    """

    ids: NDArray[np.int64]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    widths: NDArray[np.int64]

    @classmethod
    def of(cls, ids: NDArray[Any], classes: NDArray[np.int64], number: int) -> _Book:
        starts: list[int] = []
        widths, at = np.zeros(256, np.int64), 0
        for size in np.bincount(classes, minlength=number).tolist():
            begin = at
            for width in _split(size):
                widths[len(starts)] = width
                starts.append(begin)
                begin += 1 << width
            at += size  # a class ends where its ids do, also if its last bucket has room for more
        order = np.argsort(classes, kind="stable")
        return cls(ids.astype(np.int64), order, np.array(starts, np.int64), widths)

    def read(self, reader: StreamReader, count: int) -> Ids:
        buckets, places = reader.classified(count, self.widths)
        if count and int(buckets.max()) >= len(self.starts):
            raise MalformedMessageError("batch: an id in a bucket that does not exist")
        ranks = self.starts[buckets] + places.astype(np.int64) if count else np.zeros(0, np.int64)
        if count and int(ranks.max()) >= len(self.ids):
            raise MalformedMessageError("batch: an id outside its bucket")
        ids: Ids = self.ids[self.order[ranks]].astype(np.int32)
        return ids


def _split(size: int) -> list[int]:
    """Widths of a class's buckets: the powers of two that make up its size, the last one rounded up."""
    widths: list[int] = []
    while size > 0:
        last = len(widths) == _BUCKETS_PER_CLASS - 1
        widths.append((size - 1).bit_length() if last else size.bit_length() - 1)
        size -= 1 << widths[-1]
    return widths
