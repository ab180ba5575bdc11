"""Lists of pairs of centres: each vector is in the one that both its halves are nearest to."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_broker.matching.codebooks import Codebooks


def test_each_half_has_the_nearest_centre() -> None:
    """Lists are numbered by pairs, and what lies apart is measured from their centres."""
    vectors = np.random.default_rng(1).normal(size=(500, 7)).astype(np.float32)
    books = Codebooks.learnt(vectors, 8, 3)
    assert (len(books), books.width, books.centres.shape) == (24, 7, (24, 7))
    lists, apart = books.nearest(vectors)
    assert np.allclose(books.centres[lists] + apart, vectors, atol=1e-6)
    distances = np.square(vectors[:, np.newaxis] - books.centres).sum(axis=-1)
    assert np.allclose(np.square(apart).sum(axis=1), distances.min(axis=1), atol=1e-4)


def test_spread_is_that_of_all_that_was_noted() -> None:
    """Vectors noted in parts, and kept in between, spread as those of all together."""
    vectors = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
    books = Codebooks.learnt(vectors, 4, 2)
    for part in np.array_split(vectors, 3):
        books.note(*books.nearest(part))
        books = Codebooks.read(books.arrays())
    first, _ = books.halves(vectors)
    mine = books.first.nearest(first)
    for number, variance in enumerate(books.first.variances):
        apart = first[mine == number] - books.first.centres[number]
        assert np.allclose(variance, np.square(apart).mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("vectors", [np.zeros((0, 4)), np.zeros((5, 4)), np.ones((5, 1)), np.ones((1, 3))])
def test_where_there_is_little_to_tell_apart_there_are_few_lists(vectors: np.ndarray) -> None:  # type: ignore[type-arg]
    """No vector, equal ones, one dimension or fewer vectors than centres are no error."""
    books = Codebooks.learnt(vectors.astype(np.float32), 8, 2)
    lists, _ = books.nearest(vectors.astype(np.float32))
    assert len(books) <= max(len(vectors), 1) ** 2
    assert ((lists >= 0) & (lists < len(books))).all()
