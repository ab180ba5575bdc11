"""Chunks of a blob, which of them are here, and whether they are the blob."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chunks import Bitmap, chunk_count, chunk_of, verify
from protocol.errors import IntegrityError, MalformedMessageError
from protocol.topics import CHUNK_BYTES
from protocol.transfer import Download
from tests.protocol.strategies import PROPERTY
from tests.protocol.test_transfer import SOURCES


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_chunks_join_to_the_blob(size: int) -> None:
    """Chunks cover a blob of any size exactly, and there is none beyond."""
    blob = bytes(index % 251 for index in range(size))
    sha = hashlib.sha256(blob).hexdigest()
    chunks = [chunk_of(blob, sha, index) for index in range(chunk_count(size))]
    assert b"".join(chunk.data for chunk in chunks) == blob
    for index in (-1, len(chunks)):
        with pytest.raises(MalformedMessageError, match="no chunk"):
            chunk_of(blob, sha, index)


@pytest.mark.parametrize("change", [lambda blob: blob[:-1], lambda blob: blob + b"\0", lambda blob: b"x" + blob[1:]])
def test_verify_refuses_another_blob(change: Callable[[bytes], bytes]) -> None:
    """Size and SHA-256 over the whole decide."""
    source = SOURCES[2]
    verify(source.blob, source.ref)
    verify(memoryview(source.blob), source.ref)
    with pytest.raises(IntegrityError, match=source.ref.sha256[:12]):
        verify(change(source.blob), source.ref)


@PROPERTY
@given(st.integers(1, 40).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1)))))
def test_bitmap_is_a_set_of_chunks(case: tuple[int, set[int]]) -> None:
    """Membership, count and what is missing follow what was added, through its bytes."""
    size, here = case
    bitmap = Bitmap(size)
    for index in here:
        bitmap.add(index)
    back = Bitmap.from_bytes(bitmap.to_bytes(), size)
    assert back.count == len(here)
    assert {index for index in range(-1, size + 9) if index in back} == here
    assert list(back.missing()) == sorted(set(range(size)) - here)


def test_bad_bitmap_is_refused() -> None:
    """Bytes of another length, or with a chunk that the blob does not have, come from another blob."""
    assert Bitmap.from_bytes(b"\x07", 3).count == 3
    for data in (b"", b"\0\0", b"\x08"):
        with pytest.raises(MalformedMessageError, match="3 chunks"):
            Bitmap.from_bytes(data, 3)
    for index in (-1, 3):
        with pytest.raises(IndexError):
            Bitmap(3).add(index)
    with pytest.raises(MalformedMessageError, match="bitmap of 4 chunks"):
        Download(SOURCES[3].ref, Bitmap(4))
