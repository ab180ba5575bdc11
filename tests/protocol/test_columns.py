from __future__ import annotations

import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protocol.columns import Codec, decode_column, encode_column
from protocol.errors import MalformedMessageError, OversizeError, ProtocolError
from tests.protocol.strategies import PROPERTY

zstandard = pytest.importorskip("zstandard", reason="no wheel of it for this machine")

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
BOMB_BYTES = 16 << 20
SMALL = (1 << 17,)  # bytes that the reader of a bomb expects


@st.composite
def arrays(draw: st.DrawFn) -> NDArray[Any]:
    """Arrays of any bits, so with every NaN there is, in either byte order."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    dtype = draw(st.sampled_from([dtype, dtype.newbyteorder()]))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6))
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)


@PROPERTY
@given(arrays(), st.booleans())
def test_round_trip_is_exact(array: NDArray[Any], zstd: bool) -> None:
    """Every bit comes back, in native byte order and in an array of one's own, and no array grows."""
    codec, data = encode_column(array, zstd=zstd)
    back = decode_column(codec, data, array.dtype.newbyteorder("="), array.shape)
    assert len(data) <= array.nbytes
    assert back.dtype.isnative
    assert back.flags.writeable
    assert back.astype(array.dtype).tobytes() == array.tobytes()


def test_layout_is_fixed() -> None:
    """The wire format: first bytes first, little-endian, whatever the array's own byte order."""
    for dtype in ("<i4", ">i4"):
        array = np.array([0x01020304, 0x0A0B0C0D], dtype)
        assert encode_column(array) == (Codec.RAW, bytes.fromhex("040d 030c 020b 010a"))


def test_strided_array_is_packed_by_value() -> None:
    """A view with gaps, or in column order, packs as its copy does."""
    array = np.arange(60, dtype=np.int32).reshape(6, 10)
    assert encode_column(array[::2, 1:4]) == encode_column(array[::2, 1:4].copy())
    assert encode_column(np.asfortranarray(array)) == encode_column(array)


def test_codec_follows_the_reader_and_the_gain() -> None:
    """Zstd where the reader has it, zlib where not, raw where neither helps."""
    ids = np.arange(1000, dtype=np.int32)
    noise = np.random.default_rng(1).bytes(64)
    assert encode_column(ids)[0] is Codec.ZSTD
    assert encode_column(ids, zstd=False)[0] is Codec.ZLIB
    for zstd in (True, False):
        assert encode_column(np.frombuffer(noise, np.uint8), zstd=zstd) == (Codec.RAW, noise)


@pytest.mark.parametrize("array", [np.array([None]), np.array(["a"]), np.array([True]), np.array([1j])])
def test_only_numbers_are_packed(array: NDArray[Any]) -> None:
    """Objects would need pickle; they and everything else that is no number are the caller's mistake."""
    with pytest.raises(TypeError, match="integers or floats"):
        encode_column(array)


def _zstd_without_size(data: bytes) -> bytes:
    frame: bytes = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    return frame


def _zstd_that_lies(data: bytes) -> bytes:
    # A frame of many blocks is magic, descriptor, window, and then its size in four bytes.
    frame = bytearray(zstandard.compress(data))
    assert int.from_bytes(frame[6:10], "little") == len(data)
    frame[6:10] = SMALL[0].to_bytes(4, "little")
    return bytes(frame)


@pytest.mark.parametrize(
    ("codec", "compress", "error"),
    [
        (Codec.ZLIB, zlib.compress, MalformedMessageError),
        (Codec.ZSTD, zstandard.compress, OversizeError),
        (Codec.ZSTD, _zstd_without_size, MalformedMessageError),
        (Codec.ZSTD, _zstd_that_lies, MalformedMessageError),
    ],
    ids=["zlib", "zstd", "zstd of unknown size", "zstd that lies"],
)
def test_bomb_is_refused_without_allocating(
    codec: Codec, compress: Callable[[bytes], bytes], error: type[ProtocolError]
) -> None:
    """Small data that would unpack to 16 MiB take no more memory than the array that was expected."""
    bomb = compress(bytes(BOMB_BYTES))
    assert len(bomb) < SMALL[0]
    tracemalloc.start()
    try:
        with pytest.raises(error):
            decode_column(codec, bomb, np.uint8, SMALL)
        assert tracemalloc.get_traced_memory()[1] < 4 * SMALL[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", [Codec.ZLIB, Codec.ZSTD])
def test_every_cut_and_extension_is_refused(codec: Codec) -> None:
    """A stream must end where its array does."""
    array = np.arange(64, dtype=np.int64)
    packed_as, data = encode_column(array, zstd=codec is Codec.ZSTD)
    assert packed_as is codec
    for cut in range(len(data)):
        with pytest.raises(MalformedMessageError):
            decode_column(codec, data[:cut], "int64", (64,))
    for wrong in (data + b"\0", data + data):
        with pytest.raises(MalformedMessageError):
            decode_column(codec, wrong, "int64", (64,))
    for length in (63, 65):
        with pytest.raises(ProtocolError):
            decode_column(codec, data, "int64", (length,))


def test_raw_and_unknown_codecs_are_checked() -> None:
    """Raw bytes must be exactly the array's, and a codec must be known."""
    for size in (0, 7, 9):
        with pytest.raises(MalformedMessageError):
            decode_column(Codec.RAW, bytes(size), "int32", (2,))
    with pytest.raises(MalformedMessageError, match="unknown codec 3"):
        decode_column(3, bytes(8), "int32", (2,))


@PROPERTY
@given(st.integers(0, 3), st.binary(max_size=60), st.sampled_from(DTYPES), st.integers(0, 12))
def test_any_bytes_decode_or_are_refused(codec: int, data: bytes, dtype: str, length: int) -> None:
    """Nothing but a ProtocolError escapes, and what decodes has the shape asked for."""
    with suppress(ProtocolError):
        assert decode_column(codec, data, dtype, (length,)).shape == (length,)


WITHOUT_ZSTD = """
import sys
sys.modules["zstandard"] = None  # what an import finds where the package is not installed
import numpy as np
from protocol.columns import Codec, decode_column, encode_column, zstd_available
from protocol.errors import UnsupportedCodecError

ids = np.arange(1000, dtype=np.int32)
codec, data = encode_column(ids)
assert not zstd_available() and codec is Codec.ZLIB
assert (decode_column(codec, data, "int32", (1000,)) == ids).all()
try:
    decode_column(Codec.ZSTD, bytes(8), "int32", (1000,))
except UnsupportedCodecError as error:
    print(error)
"""


def test_without_zstandard_zlib_is_used_and_zstd_refused_clearly() -> None:
    """A machine without the package reads and writes zlib, and says what it lacks when it meets zstd."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_ZSTD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "install the zstandard package or ask for zlib" in done.stdout
