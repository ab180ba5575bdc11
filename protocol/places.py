"""Which sequence each row's window is over and where it ends, as two streams."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.errors import MalformedMessageError
from protocol.streams import StreamReader, StreamWriter
from protocol.windows import EMPTY, Index, Windows, sequence_lengths

_SAME, _NEW, _NONE, _BACK = 0, 1, 2, 3  # a row's sequence: the last row's, the next new one, none, or 3 + how far back


def write_places(writer: StreamWriter, windows: Windows, length: int) -> None:
    """Which sequence each row has, and how far its window's end is from that of the sequence's last one."""
    newest, before = _references(windows.sequence)
    is_new = windows.sequence > newest
    back = newest - windows.sequence + _BACK
    token = np.where(is_new, _NEW, np.where(windows.sequence == before, _SAME, back))
    writer.numbers(np.where(windows.sequence == EMPTY, _NONE, token))
    used = windows.sequence != EMPTY
    order, first = _by_sequence(windows.sequence[used])
    ends = windows.end[used][order]
    writer.signed((ends - np.where(first, length, np.append(0, ends[:-1])))[_inverse(order)])


def read_places(reader: StreamReader, samples: int, length: int) -> tuple[Index, Index]:
    """Each row's sequence and end, checked: at most ``length`` ids a row in all, and every end within its sequence."""
    sequence = _read_sequences(reader, samples)
    used = sequence != EMPTY
    order, first = _by_sequence(sequence[used])
    steps = reader.signed(len(order))[order]
    if steps.min(initial=0) < -samples * length or steps.max(initial=0) > samples * length:
        raise MalformedMessageError("batch: a window ends outside its sequence")
    total = np.cumsum(steps)
    group = np.cumsum(first) - 1
    before = (total - steps)[first]
    end = np.zeros(samples, np.int64)
    end[used] = (total - before[group] + length)[_inverse(order)]
    if end[used].min(initial=1) < 1 or int(sequence_lengths(sequence, end).sum()) > samples * length:
        raise MalformedMessageError("batch: a window ends outside its sequence")
    return sequence, end


def _read_sequences(reader: StreamReader, samples: int) -> Index:
    tokens = reader.numbers(samples)
    if int(tokens.max(initial=0)) > samples + _BACK:
        raise MalformedMessageError("batch: a row of a sequence that does not exist")
    token = tokens.astype(np.int64)
    newest = np.cumsum(token == _NEW) - 1
    stated = np.where(token == _NEW, newest, newest - token + _BACK)
    latest = np.maximum.accumulate(np.where((token == _NEW) | (token >= _BACK), np.arange(samples), -1))
    sequence = np.where(latest >= 0, stated[latest], EMPTY) if samples else stated
    if (sequence[token != _NONE] < 0).any():
        raise MalformedMessageError("batch: a row of a sequence that does not exist")
    return np.where(token == _NONE, EMPTY, sequence)


def _references(sequence: Index) -> tuple[Index, Index]:
    """For each row the newest sequence before it, and the sequence of the last row before it that has one."""
    before = np.append(EMPTY, sequence[:-1]) if len(sequence) else sequence
    newest = np.maximum.accumulate(before) if len(before) else before
    latest = np.maximum.accumulate(np.where(before != EMPTY, np.arange(len(before)), 0)) if len(before) else before
    return newest, before[latest] if len(before) else before


def _by_sequence(sequence: Index) -> tuple[Index, NDArray[np.bool_]]:
    """The rows with those of one sequence together, in order, and which of these are a sequence's first."""
    order = np.argsort(sequence, kind="stable").astype(np.int64)
    return order, np.diff(sequence[order], prepend=-1) != 0


def _inverse(order: Index) -> Index:
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse
