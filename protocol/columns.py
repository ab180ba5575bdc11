"""Arrays to bytes and back: little-endian, byte-shuffled, compressed where that helps.

Shuffling puts the first byte of every number first, then every second byte, and so on. Ids and times share their
high bytes, so these become long runs and compress to almost nothing: a column of int32 ids then takes no more than
the same ids in uint16.

The reader states dtype and shape. That bounds the decompressed size before anything is decompressed.
"""

from __future__ import annotations

import math
import threading
import zlib
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from protocol.errors import MalformedMessageError, OversizeError, UnsupportedCodecError

try:
    import zstandard
except ImportError:  # 32-bit ARM has no wheel of it
    zstandard = None  # type: ignore[assignment]

_ZLIB_LEVEL = 6
_ZLIB_MEMORY = 9  # fewer, longer blocks than the default 8
_ZSTD_LEVEL = 9  # up to a quarter smaller than the default level 3, and still faster than zlib
_ZSTD_QUICK_LEVEL = 3  # a quarter of the time


_of_thread = threading.local()


class Codec(IntEnum):
    """How a column's shuffled bytes are stored."""

    RAW = 0
    ZLIB = 1
    ZSTD = 2


def zstd_available() -> bool:
    """Whether this machine can read and write `Codec.ZSTD`."""
    return zstandard is not None


def encode_column(
    array: NDArray[Any], *, zstd: bool = True, phrases: bool = True, quick: bool = False
) -> tuple[Codec, bytes]:
    """Pack an array.

    Args:
        array: Integers or floats of any shape and byte order.
        zstd: Whether its reader has zstd. It is used if this machine has it too, else zlib.
        phrases: Whether zlib shall look for what repeats; without, it codes each byte by its frequency alone.
        quick: Whether zstd shall take less time and a few more bytes.

    Returns:
        The codec and the bytes, never more of them than ``array.nbytes``.

    Raises:
        TypeError: If the array holds anything else than integers or floats.
    """
    shuffled = _shuffle(array)
    codec = Codec.ZSTD if zstd and zstd_available() else Codec.ZLIB
    if codec is Codec.ZSTD:
        packed = _compressor(_ZSTD_QUICK_LEVEL if quick else _ZSTD_LEVEL).compress(shuffled)
    else:
        strategy = zlib.Z_DEFAULT_STRATEGY if phrases else zlib.Z_HUFFMAN_ONLY
        deflate = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, _ZLIB_MEMORY, strategy)
        packed = deflate.compress(shuffled) + deflate.flush()
    return (codec, packed) if len(packed) < len(shuffled) else (Codec.RAW, shuffled)


def decode_column(codec: int, data: bytes | memoryview, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Unpack an array that `encode_column` packed, whichever codec this machine would have chosen.

    Args:
        codec: A `Codec`.
        data: The packed bytes.
        dtype: Expected type of the numbers.
        shape: Expected shape. Its bytes are all that is ever allocated.

    Returns:
        A new array of that dtype in native byte order, equal bit by bit to what was packed.

    Raises:
        MalformedMessageError: If the codec is unknown or the data do not unpack to exactly that array.
        OversizeError: If the data state that they unpack to more.
        UnsupportedCodecError: If they need zstd and it is not installed here.
    """
    native = np.dtype(dtype)
    expected_bytes = math.prod(shape) * native.itemsize
    if len(data) > expected_bytes:
        raise MalformedMessageError(f"column: {len(data)} bytes stored for an array of {expected_bytes}")
    shuffled = _unpack(codec, data, expected_bytes)
    if len(shuffled) != expected_bytes:
        raise MalformedMessageError(f"column: does not unpack to the {expected_bytes} bytes of {native}{list(shape)}")
    planes = np.frombuffer(shuffled, np.uint8).reshape(native.itemsize, -1)
    array = planes.T.copy().reshape(-1).view(native.newbyteorder("<"))
    return array.astype(native, copy=False).reshape(shape)


def _compressor(level: int) -> Any:
    """This thread's compressor: to make one takes longer than to pack a small column."""
    made: dict[int, Any] = _of_thread.__dict__.setdefault("compressors", {})
    if level not in made:
        made[level] = zstandard.ZstdCompressor(level=level)
    return made[level]


def _shuffle(array: NDArray[Any]) -> bytes:
    if array.dtype.kind not in "iuf":
        raise TypeError(f"a column holds integers or floats, not {array.dtype}")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    # A third of what NumPy takes to write out a transposed array.
    return b"".join([little[place :: array.itemsize] for place in range(array.itemsize)])


def _unpack(codec: int, data: bytes | memoryview, expected_bytes: int) -> bytes | memoryview:
    if codec == Codec.RAW:
        return data
    if codec == Codec.ZLIB:
        return _inflate(data, expected_bytes)
    if codec == Codec.ZSTD:
        return _unpack_zstd(data, expected_bytes)
    raise MalformedMessageError(f"column: unknown codec {codec}")


def _inflate(data: bytes | memoryview, expected_bytes: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        # One byte more than expected: enough to see an overlong stream, and all that a bomb can make us allocate.
        unpacked = inflater.decompress(data, expected_bytes + 1)
    except zlib.error as error:
        raise MalformedMessageError(f"column: not zlib ({error})") from error
    if not inflater.eof or inflater.unused_data:
        raise MalformedMessageError(f"column: zlib stream does not end where its {expected_bytes} bytes do")
    return unpacked


def _unpack_zstd(data: bytes | memoryview, expected_bytes: int) -> bytes:
    if not zstd_available():
        raise UnsupportedCodecError("column: packed with zstd; install the zstandard package or ask for zlib")
    try:
        # The decompressor allocates what the frame's header states, so that is checked first.
        stated_bytes = zstandard.frame_content_size(data)
        if stated_bytes > expected_bytes:
            raise OversizeError("column: zstd frame", stated_bytes, expected_bytes)
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedMessageError(f"column: not zstd ({error})") from error
