"""Blobs on disk and on their way there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.storage.blobs import BlobStore
from protocol.chunks import chunk_of
from protocol.errors import IntegrityError
from protocol.messages import BlobRef
from protocol.topics import CHUNK_BYTES
from protocol.transfer import Download

BLOB = os.urandom(3 * CHUNK_BYTES + 100)
REF = BlobRef(hashlib.sha256(BLOB).hexdigest(), len(BLOB))


def _receive(store: BlobStore, indices: list[int], blob: bytes = BLOB) -> None:
    with store.partial(REF) as partial:
        download = Download(REF, partial.have)
        for index in indices:
            received = download.receive(chunk_of(blob, REF.sha256, index), 0.0)
            if received is not None:
                partial.write(received)


@settings(deadline=None)
@given(first=st.lists(st.integers(0, 3), max_size=6), order=st.permutations([0, 1, 2, 3]))
def test_a_cut_transfer_continues(tmp_path_factory: pytest.TempPathFactory, first: list[int], order: list[int]) -> None:
    """After any chunks in any order, opening again knows exactly which are here; the rest completes the blob."""
    store = BlobStore(tmp_path_factory.mktemp("blobs"))
    _receive(store, first)
    with store.partial(REF) as partial:
        assert [index for index in range(4) if index in partial.have] == sorted(set(first))
    assert REF not in store
    _receive(store, order)
    with store.partial(REF) as partial:
        assert partial.finish().read_bytes() == BLOB
    assert REF in store
    assert store.whole() == (REF.sha256,)


def test_a_bitmap_without_its_data_claims_nothing(tmp_path: Path) -> None:
    """Where the data file is lost the transfer begins again; where the bitmap is torn, too."""
    store = BlobStore(tmp_path)
    _receive(store, [0, 1])
    (tmp_path / f"{REF.sha256}.part").unlink()
    with store.partial(REF) as partial:
        assert partial.have.count == 0
    _receive(store, [0, 1])
    (tmp_path / f"{REF.sha256}.have").write_bytes(b"")
    with store.partial(REF) as partial:
        assert partial.have.count == 0


def test_a_spoilt_blob_gets_no_name(tmp_path: Path) -> None:
    """A wrong whole is refused and forgotten, so that the next try begins from nothing."""
    store = BlobStore(tmp_path)
    _receive(store, [0, 1, 2, 3])
    with (tmp_path / f"{REF.sha256}.part").open("r+b") as data:
        data.write(b"spoilt")
    with store.partial(REF) as partial, pytest.raises(IntegrityError, match="arrived with"):
        partial.finish()
    assert REF not in store
    with store.partial(REF) as partial:
        assert partial.have.count == 0


def test_only_what_is_needed_stays(tmp_path: Path) -> None:
    """Other blobs go, whole or partial, with their bitmaps."""
    store = BlobStore(tmp_path)
    _receive(store, [0])
    (tmp_path / ("c" * 64)).write_bytes(b"old")
    (tmp_path / ("d" * 64)).write_bytes(b"needed")
    store.keep_only({"d" * 64})
    assert [path.name for path in tmp_path.iterdir()] == ["d" * 64]
