"""Rows by what was seen: exact for queries that say nothing of who saw it, and without what was erased."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.matching import second_halves
from cloud_broker.matching.codebooks import Codebooks
from cloud_broker.matching.second_halves import SecondHalves
from cloud_broker.matching.vector_index import Allowed

ROWS, ITEMS, HALF = 2000, 90, 4
Floats = NDArray[np.float32]


def _vectors(seed: int = 1) -> Floats:
    """Users' halves that all differ, items' halves of which few are popular; row 5 is nobody's."""
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(ITEMS, HALF)).astype(np.float32)
    which = np.minimum(rng.geometric(0.08, ROWS), ITEMS) - 1
    vectors = np.concatenate([rng.normal(size=(ROWS, HALF)).astype(np.float32), items[which]], axis=1)
    vectors[5] = 0
    return np.asarray(vectors, np.float32)


def _written(folder: Path, vectors: Floats) -> SecondHalves:
    second_halves.write(folder / "a", Codebooks.learnt(vectors, 4, 2), vectors)
    return SecondHalves(folder / "a")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the rows of `_vectors` are written."""
    folder = tmp_path_factory.mktemp("halves")
    _written(folder, _vectors())
    return folder


@given(seed=st.integers(0, 50), count=st.integers(1, 500), share=st.sampled_from([1.0, 0.5, 0.02]))
@settings(max_examples=40, deadline=None)
def test_what_is_found_is_as_near_as_what_all_rows_have(folder: Path, seed: int, count: int, share: float) -> None:
    """Whatever the query, how many are asked for and how few are allowed: in order, none missing."""
    vectors, halves = _vectors(), SecondHalves(folder / "a")
    rng = np.random.default_rng(seed)
    half = rng.normal(size=HALF).astype(np.float32)
    marked = (rng.random(ROWS) < share) if share < 1 else np.ones(ROWS, np.bool_)
    rows = halves.nearest(half, count, Allowed(marked) if share < 1 else None)
    assert marked[rows].all()
    assert len(set(rows.tolist())) == len(rows)
    may = np.flatnonzero(marked & vectors.any(axis=1))
    best = np.sort(vectors[may, HALF:] @ half)[::-1][:count]
    assert np.allclose(vectors[rows, HALF:] @ half, best, atol=1e-5)


def test_equally_near_rows_come_in_their_order(folder: Path) -> None:
    """Of one item's rows the first are found."""
    vectors, halves = _vectors(), SecondHalves(folder / "a")
    mine = np.flatnonzero((vectors[:, HALF:] == vectors[17, HALF:]).all(axis=1))
    everything = halves.nearest(vectors[17, HALF:], ROWS, None)
    assert [row for row in everything.tolist() if row in set(mine.tolist())] == mine.tolist()


def test_erased_rows_are_gone_from_the_file(tmp_path: Path) -> None:
    """For all who have it open; others stay."""
    vectors = _vectors()
    one, other = _written(tmp_path, vectors), SecondHalves(tmp_path / "a")
    gone = np.zeros(ROWS, np.bool_)
    gone[[0, 8, 1999]] = True
    one.erase(gone)
    left = set(range(ROWS)) - {0, 5, 8, 1999}
    assert set(other.nearest(vectors[17, HALF:], ROWS, None).tolist()) == left
    assert set(np.load(tmp_path / "a.seconds.npy").tolist()) == left | {-1}


@pytest.mark.parametrize("vectors", [np.zeros((9, 4)), np.arange(400).reshape(100, 4), np.zeros((0, 4))])
def test_where_few_rows_have_the_same_half_there_are_none(tmp_path: Path, vectors: NDArray[np.int64]) -> None:
    """Nor of rows of zeros or no rows: such queries are searched by lists."""
    assert len(_written(tmp_path, vectors.astype(np.float32))) == 0


@pytest.mark.parametrize("ending", ["seconds.npz", "seconds.npy"])
def test_a_damaged_file_is_a_clear_error(tmp_path: Path, ending: str) -> None:
    """Cut or gone."""
    _written(tmp_path, _vectors())
    path = tmp_path / f"a.{ending}"
    for content in (path.read_bytes()[:20], None):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(StorageError, match="cannot read"):
            SecondHalves(tmp_path / "a")
