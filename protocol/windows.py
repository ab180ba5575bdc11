"""Histories as windows over shared sequences.

A user's histories at successive times are one sequence seen through a sliding window. So a column of histories is a few
sequences and, for each row, which one and where its window ends: the row holds the last ids before that end, padded in
front where the sequence has not that many yet. Nothing is assumed of the column but that windows may overlap; where
none do, each row just becomes a sequence of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Index = NDArray[np.int64]

EMPTY = -1
_GRAM = 3  # ids by which the end of one window is found within another
_MAX_LOOKUPS = 1 << 22  # bounds the search in very wide columns; what it misses costs bytes, nothing else
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Windows:
    """A column of n histories.

    Attributes:
        tape: The sequences, end to end; int32.
        sequence: [n], each row's sequence, numbered by first use; `EMPTY` for a row of padding alone.
        end: [n], how many ids of its sequence come before the end of the row's window; 0 for an empty row.
    """

    tape: Ids
    sequence: Index
    end: Index

    def rows(self, length: int) -> Ids:
        """The histories, [n, length]."""
        places = self.end[:, None] + np.arange(-length, 0)
        known = places >= 0
        padded = np.append(self.tape, np.int32(0))
        rows: Ids = padded[np.where(known, places + self._first[:, None], len(self.tape))]
        return rows

    def following(self) -> Ids:
        """[n], the id that comes next in each row's sequence; 0 where the tape does not tell."""
        lengths = np.append(sequence_lengths(self.sequence, self.end), 0)
        known = self.end < lengths[self.sequence]
        padded = np.append(self.tape, np.int32(0))
        following: Ids = padded[np.where(known, self._first + self.end, len(self.tape))]
        return following

    @property
    def _first(self) -> Index:
        """[n], where each row's sequence begins on the tape; 0 for an empty row."""
        lengths = np.append(sequence_lengths(self.sequence, self.end), 0)
        first: Index = np.where(self.sequence == EMPTY, 0, (np.cumsum(lengths) - lengths)[self.sequence])
        return first


@dataclass(frozen=True)
class Shared:
    """Which rows share a sequence, before the sequences are laid end to end.

    Attributes:
        sequence: [n], numbered by first use in the order of the search.
        end: [n], as in `Windows`.
        fresh: [n], ids at the row's end that no earlier row has put into the sequence.
    """

    sequence: Index
    end: Index
    fresh: Index

    def take(self, order: Index) -> Shared:
        """The same of the rows in another order."""
        return Shared(self.sequence[order], self.end[order], self.fresh[order])


def sequence_lengths(sequence: Index, end: Index) -> Index:
    """[sequences], ids of each: where its last window ends."""
    lengths = np.zeros(int(sequence.max(initial=EMPTY)) + 1, np.int64)
    used = sequence != EMPTY
    np.maximum.at(lengths, sequence[used], end[used])
    return lengths


def find_shared(rows: Ids, order: Index) -> Shared:
    """Find the sequences that histories share.

    Args:
        rows: [n, length], padded with 0 in front, newest last.
        order: The rows in an order in which windows slide forward, such as by time.
    """
    ordered = rows[order]
    before, step = (values.tolist() for values in _predecessors(ordered))
    content = (rows.shape[1] - _leading_zeros(ordered)).tolist()
    sequence, end, fresh = [EMPTY] * len(rows), [0] * len(rows), [0] * len(rows)
    lengths: list[int] = []
    for row, (base, shift, ids) in enumerate(zip(before, step, content, strict=True)):
        if ids == 0:
            continue
        if base >= 0 and sequence[base] != EMPTY and (shift == 0 or end[base] == lengths[sequence[base]]):
            sequence[row], fresh[row] = sequence[base], shift
            end[row] = end[base] + shift
            lengths[sequence[row]] = max(end[row], lengths[sequence[row]])
        else:
            sequence[row], end[row], fresh[row] = len(lengths), ids, ids
            lengths.append(ids)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    found = (np.array(values, np.int64) for values in (sequence, end, fresh))
    return Shared(*found).take(back)


def lay_out(rows: Ids, shared: Shared) -> Windows:
    """Lay the sequences end to end, numbered by their first use among ``rows``."""
    used = shared.sequence != EMPTY
    numbers, first_use, inverse = np.unique(shared.sequence[used], return_index=True, return_inverse=True)
    new = np.empty(len(numbers), np.int64)
    new[np.argsort(first_use)] = np.arange(len(numbers))
    sequence = np.full(len(rows), EMPTY, np.int64)
    sequence[used] = new[inverse.reshape(-1)]
    windows = Windows(np.zeros(0, np.int32), sequence, shared.end)
    lengths = sequence_lengths(sequence, shared.end)
    tape = np.zeros(int(lengths.sum()), np.int32)
    source = np.repeat(np.arange(len(rows)), shared.fresh)
    # 1 for a row's last id, 2 for the one before it, and so on, over all fresh ids.
    from_end = np.repeat(np.cumsum(shared.fresh), shared.fresh) - np.arange(len(source))
    tape[(windows._first + shared.end)[source] - from_end] = rows[source, rows.shape[1] - from_end]
    return Windows(tape, sequence, shared.end)


def _predecessors(rows: Ids) -> tuple[Index, Index]:
    """For each row an earlier one that it continues, -1 for none, and by how many ids; both [n].

    A row continues another by s ids if its first ``length - s`` are the other's last; of several such rows it is the
    latest of those with the smallest s. They are found by the hash of their last ids, and then compared whole.
    """
    n, length = rows.shape
    gram = min(_GRAM, length)
    base, step = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    tails, tail_of = np.unique(_grams(rows, length - gram, gram), return_inverse=True)
    tail_keys = np.sort(tail_of.reshape(-1) * n + np.arange(n))
    open_rows = np.flatnonzero(rows.any(axis=1))
    for shift in range(min(length - gram, _MAX_LOOKUPS // max(n, 1)) + 1):
        if not len(open_rows):
            break
        grams = _grams(rows[open_rows], length - gram - shift, gram)
        code = np.minimum(np.searchsorted(tails, grams), len(tails) - 1)
        place = np.searchsorted(tail_keys, code * n + open_rows) - 1
        other = tail_keys[place] % n
        hit = np.flatnonzero((tails[code] == grams) & (place >= 0) & (tail_keys[place] // n == code))
        kept = length - shift
        hit = hit[(rows[open_rows[hit], :kept] == rows[other[hit], shift:]).all(axis=1)]
        base[open_rows[hit]], step[open_rows[hit]] = other[hit], shift
        open_rows = np.delete(open_rows, hit)
    return base, step


def _grams(rows: Ids, begin: int, width: int) -> NDArray[np.uint64]:
    """[n], a hash of the ids in columns ``begin`` to ``begin + width``."""
    mixed = np.zeros(len(rows), np.uint64)
    for column in range(begin, begin + width):
        mixed = (mixed + rows[:, column].astype(np.uint64) + np.uint64(1)) * _MIX
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _leading_zeros(rows: Ids) -> Index:
    filled = rows != 0
    return np.where(filled.any(axis=1), filled.argmax(axis=1), rows.shape[1]).astype(np.int64)
