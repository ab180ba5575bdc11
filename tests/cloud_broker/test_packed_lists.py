"""Lists of codes in a mapped file: the layout that faiss reads, and what erasing leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_broker.errors import StorageError
from cloud_broker.matching import packed_lists
from cloud_broker.matching.packed_lists import PackedLists


@given(count=st.integers(0, 100), width=st.integers(1, 9), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_codes_come_out_of_blocks_as_they_went_in(count: int, width: int, seed: int) -> None:
    """Packing loses nothing, whatever the number of codes and their width; beyond the end are zeros."""
    codes = np.random.default_rng(seed).integers(0, 256, (count, width)).astype(np.uint8)
    blocks = packed_lists.packed(codes)
    assert blocks.shape == (-(-count // 32), width, 32)
    again = packed_lists.unpacked(blocks)
    assert np.array_equal(again[:count], codes)
    assert not again[count:].any()


@pytest.mark.parametrize("dimensions", [8, 32])
def test_blocks_are_as_faiss_packs_them(dimensions: int) -> None:
    """Byte for byte what faiss' own index of such codes has in its list."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(700, dimensions)).astype(np.float32)
    index = faiss.index_factory(dimensions, f"IVF1,PQ{dimensions}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    inverted: Any = faiss.downcast_index(index)
    held = faiss.rev_swig_ptr(inverted.invlists.get_codes(0), 704 * dimensions // 2)
    coder = inverted.pq
    apart = vectors - inverted.quantizer.reconstruct(0) if inverted.by_residual else vectors
    assert np.array_equal(held, packed_lists.packed(coder.compute_codes(apart)).ravel())


def test_lists_hold_what_was_written_until_it_is_erased(tmp_path: Path) -> None:
    """Each list has its codes by id; an erased id is gone for all who have the file mapped, and counted once."""
    rng = np.random.default_rng(2)
    lists = rng.integers(-1, 5, 400).astype(np.int32)
    codes = rng.integers(1, 256, (400, 4)).astype(np.uint8)
    sizes = packed_lists.write(tmp_path / "a.lists", lists, codes, 6)
    assert sizes.tolist() == [*np.bincount(lists[lists >= 0], minlength=5), 0]
    one, other = (PackedLists(tmp_path / "a.lists", sizes, 4) for _ in range(2))
    gone = np.zeros(400, np.bool_)
    gone[[3, 50, 51, 399]] = True
    assert one.erase(np.arange(6), gone) == int((gone & (lists >= 0)).sum())
    assert one.erase(np.arange(6), gone) == 0
    for number, ids, some in other.contents():
        assert ids.tolist() == np.flatnonzero((lists == number) & ~gone).tolist()
        assert np.array_equal(some, codes[ids])


def test_lists_without_vectors_are_lists_too(tmp_path: Path) -> None:
    """A pool that was forgotten whole has a file of empty lists."""
    sizes = packed_lists.write(tmp_path / "a.lists", np.full(3, -1, np.int32), np.zeros((3, 4), np.uint8), 2)
    assert [len(ids) for _, ids, _ in PackedLists(tmp_path / "a.lists", sizes, 4).contents()] == [0, 0]


def test_a_file_of_another_length_is_not_read(tmp_path: Path) -> None:
    """What is gone or cut short is a clear error."""
    path = tmp_path / "a.lists"
    sizes = packed_lists.write(path, np.zeros(9, np.int32), np.ones((9, 4), np.uint8), 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match="bytes where there should be"):
        PackedLists(path, sizes, 4)
    path.unlink()
    with pytest.raises(StorageError, match="cannot read"):
        PackedLists(path, sizes, 4)
