"""Arrays written one after another, compressed, and read back by a reader that bounds every one of them.

Whole numbers become one class byte each and, above `_DIRECT`, the bits below the leading one. The class bytes are what
compresses, so only they go through zstd or zlib; the bits behind them are packed as they are, those of one width
together. Nothing of this needs a loop over numbers in Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from protocol.columns import Codec, decode_column, encode_column
from protocol.errors import MalformedMessageError

Bytes = NDArray[np.uint8]
Unsigned = NDArray[np.uint64]

_DIRECT = 192  # numbers below are their own class; class 192 + k is that of numbers whose leading bit is bit k
_LEADING = np.uint64(1) << np.arange(64, dtype=np.uint64)
_NUMBER_WIDTHS = np.concatenate([np.zeros(_DIRECT, np.int64), np.arange(256 - _DIRECT)])


class StreamWriter:
    """Collects streams.

    Attributes:
        sizes: Codec and bytes of every compressed stream, in turn, for the header.
    """

    def __init__(self, *, zstd: bool) -> None:
        self.sizes: list[int] = []
        self._parts: list[bytes] = []
        self._zstd = zstd

    def column(self, array: NDArray[Any]) -> None:
        """Write an array of integers or floats."""
        self._append(*encode_column(array, zstd=self._zstd))

    def numbers(self, values: NDArray[Any]) -> None:
        """Write whole numbers from 0 to 2**64 - 1; small ones, and those that repeat, cost least."""
        numbers = values.astype(np.uint64, copy=False)
        leading = np.searchsorted(_LEADING, numbers, side="right") - 1  # -1 for 0
        direct = numbers < _DIRECT
        classes = np.where(direct, numbers, (_DIRECT + leading).astype(np.uint64)).astype(np.uint8)
        self.classified(classes, numbers, _NUMBER_WIDTHS)

    def signed(self, values: NDArray[np.int64]) -> None:
        """Write whole numbers of either sign, small ones cheaply."""
        self.numbers(((values << 1) ^ (values >> 63)).view(np.uint64))

    def classified(self, classes: Bytes, values: Unsigned, widths: NDArray[np.int64]) -> None:
        """Write class bytes, and of each value as many low bits as ``widths`` [256] gives to its class."""
        self._classes(classes)
        width_of = widths[classes]
        for width in np.unique(width_of[width_of > 0]).tolist():
            chosen = values[width_of == width]
            bits = (chosen[:, None] >> np.arange(width, dtype=np.uint64)) & np.uint64(1)
            self._parts.append(np.packbits(bits.astype(np.uint8)).tobytes())

    def _classes(self, classes: Bytes) -> None:
        # Class bytes hardly repeat in runs or phrases: often their frequencies alone tell more in fewer bytes.
        candidates = [encode_column(classes, zstd=self._zstd), encode_column(classes, zstd=False, phrases=False)]
        self._append(*min(candidates, key=lambda candidate: len(candidate[1])))

    def _append(self, codec: Codec, data: bytes) -> None:
        self.sizes += [int(codec), len(data)]
        self._parts.append(data)

    def body(self) -> bytes:
        """All streams, end to end."""
        return b"".join(self._parts)


class StreamReader:
    """Reads what a `StreamWriter` wrote, in the same order.

    The caller says how many numbers it expects, and that alone decides what is allocated, not what the payload claims.

    Raises:
        MalformedMessageError: By any method, if the streams are not what is asked for.
        OversizeError: If one unpacks to more.
        UnsupportedCodecError: If one needs zstd and that is not installed here.
    """

    def __init__(self, sizes: object, body: memoryview) -> None:
        whole = isinstance(sizes, list) and all(type(size) is int and size >= 0 for size in sizes)
        if not isinstance(sizes, list) or not whole or len(sizes) % 2:
            raise MalformedMessageError("batch: its header does not describe streams")
        self._sizes = iter(sizes)
        self._body = body
        self._at = 0

    def column(self, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Read an array."""
        codec, size = next(self._sizes, None), next(self._sizes, None)
        if codec is None or size is None:
            raise MalformedMessageError("batch: fewer streams than its schema needs")
        return decode_column(codec, self._take(size), dtype, shape)

    def numbers(self, count: int) -> Unsigned:
        """Read ``count`` whole numbers."""
        classes, values = self.classified(count, _NUMBER_WIDTHS)
        leading = _LEADING[np.maximum(classes.astype(np.int64) - _DIRECT, 0)]
        return np.where(classes < _DIRECT, classes.astype(np.uint64), leading | values)

    def signed(self, count: int) -> NDArray[np.int64]:
        """Read ``count`` whole numbers of either sign."""
        values = self.numbers(count).view(np.int64)
        return ((values >> 1) & np.int64(0x7FFF_FFFF_FFFF_FFFF)) ^ -(values & 1)

    def classified(self, count: int, widths: NDArray[np.int64]) -> tuple[Bytes, Unsigned]:
        """Read ``count`` class bytes and the bits behind them."""
        classes: Bytes = self.column(np.uint8, (count,))
        values = np.zeros(count, np.uint64)
        width_of = widths[classes]
        for width in np.unique(width_of[width_of > 0]).tolist():
            chosen = np.flatnonzero(width_of == width)
            values[chosen] = self._bits(len(chosen), width)
        return classes, values

    def end(self) -> None:
        """See that nothing is left."""
        if next(self._sizes, None) is not None or self._at != len(self._body):
            raise MalformedMessageError("batch: more follows than its schema needs")

    def _bits(self, count: int, width: int) -> Unsigned:
        packed = np.frombuffer(self._take(-(-count * width // 8)), np.uint8)
        bits = np.unpackbits(packed, count=count * width).reshape(count, width)
        room = next(room for room in (8, 16, 32, 64) if room >= width)
        padded = np.zeros((count, room), np.uint8)
        padded[:, :width] = bits
        return np.packbits(padded, axis=1, bitorder="little").view(f"<u{room // 8}").reshape(-1).astype(np.uint64)

    def _take(self, size: int) -> memoryview:
        begin, self._at = self._at, self._at + size
        if self._at > len(self._body):
            raise MalformedMessageError("batch: ends within a stream")
        return self._body[begin : self._at]
