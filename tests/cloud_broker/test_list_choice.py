"""Which lists are looked through: those that are likely to have the nearest, and as many as that takes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_broker.matching.codebooks import Codebook, Codebooks
from cloud_broker.matching.list_choice import ListChoice

FIRSTS, SECONDS, WIDTH, SIZE = 64, 4, 16, 100
LISTS = FIRSTS * SECONDS
Floats = NDArray[np.float32]


def _world(firsts: int) -> tuple[Floats, ListChoice]:
    """Vectors about pairs of centres, [lists, size, d], and what is known of them."""
    rng = np.random.default_rng(1)
    first, second = (rng.normal(size=(count, WIDTH // 2)).astype(np.float32) for count in (firsts, SECONDS))
    apart = 0.3 * rng.standard_normal((firsts * SECONDS, SIZE, WIDTH), np.float32)
    books = Codebooks(*(Codebook(half, np.zeros(half.shape), np.zeros(len(half))) for half in (first, second)))
    books.note(np.repeat(np.arange(len(books)), SIZE), apart.reshape(-1, WIDTH))
    return books.centres[:, np.newaxis] + apart, ListChoice(books, np.full(len(books), SIZE))


@pytest.fixture(scope="module")
def world() -> tuple[Floats, ListChoice]:
    """Of so few lists that each is judged."""
    return _world(FIRSTS)


def _share_found(vectors: Floats, query: Floats, count: int, lists: NDArray[np.int64]) -> float:
    scores = vectors @ query
    least = np.sort(scores.ravel())[-count]
    return float((scores[lists[lists >= 0]] >= least).sum() / count)


def _asked(choice: ListChoice, queries: Floats, count: int, reach: float) -> tuple[NDArray[np.int64], Floats]:
    number = len(queries)
    return choice.choose(queries, np.full(number, count, np.float32), np.full(number, reach, np.float32))


@pytest.mark.parametrize("count", [20, 200])
def test_chosen_lists_have_the_share_that_was_asked_for(world: tuple[Floats, ListChoice], count: int) -> None:
    """Where vectors spread as the model takes them to, lists have about what it expects; near ones are few."""
    vectors, choice = world
    queries = vectors[:16, 0] + np.float32(0.1)
    for query in queries:
        lists, _ = _asked(choice, query[np.newaxis], count, 0.95)
        assert _share_found(vectors, query, count, lists[0]) >= 0.9
        assert (lists >= 0).sum() <= LISTS / 2


def test_a_query_near_to_nobody_gets_more_lists(world: tuple[Floats, ListChoice]) -> None:
    """How many lists it takes hangs on the query, not on its length."""
    vectors, choice = world
    near, nobody = vectors[3, 0], vectors[:, 0].mean(axis=0)
    many = [int((_asked(choice, query[np.newaxis], 50, 0.95)[0] >= 0).sum()) for query in (near, nobody, 9 * nobody)]
    assert many[0] < many[1]
    assert many[1] == many[2]


def test_more_of_the_nearest_take_more_lists(world: tuple[Floats, ListChoice]) -> None:
    """A larger share, and more rows, take as many lists or more; a share of 1 takes all."""
    vectors, choice = world
    query = vectors[:1, 0]
    shares = [int((_asked(choice, query, 50, reach)[0] >= 0).sum()) for reach in (0.5, 0.9, 0.99, 1.0)]
    assert shares == sorted(shares)
    assert shares[-1] == LISTS
    counts = [int((_asked(choice, query, count, 0.9)[0] >= 0).sum()) for count in (10, 500, 5000)]
    assert counts == sorted(counts)


def test_lists_come_with_how_near_they_are(world: tuple[Floats, ListChoice]) -> None:
    """Each query has its own lists, filled up with -1, and the inner products with their centres beside them."""
    vectors, choice = world
    queries = np.stack([vectors[3, 0], vectors[:, 0].mean(axis=0)])
    lists, near = _asked(choice, queries, 50, 0.9)
    assert lists.shape == near.shape
    centres = vectors.mean(axis=1)
    for query, mine, products in zip(queries, lists, near, strict=True):
        real = mine >= 0
        assert len(set(mine[real].tolist())) == real.sum()
        assert np.allclose(products[real], centres[mine[real]] @ query, atol=0.3)
        assert np.isfinite(products).all()


def test_lists_that_are_left_out_at_once_would_not_have_been_looked_through() -> None:
    """Of many lists most are never judged one by one; what is chosen has the share that was asked for all the same."""
    vectors, choice = _world(1024)
    for query in (vectors[9, 0], vectors[900, 0], vectors[:, 0].mean(axis=0)):
        lists, _ = _asked(choice, query[np.newaxis], 200, 0.95)
        assert _share_found(vectors, query, 200, lists[0]) >= 0.9
        assert 0 < (lists >= 0).sum() < len(vectors) / 4
    everything, _ = _asked(choice, vectors[9, :1], 200, 1.0)
    assert sorted(everything[0].tolist()) == list(range(len(vectors)))


def test_lists_without_what_may_be_found_are_not_looked_through() -> None:
    """A filter counts for each list; where it leaves few, they are found."""
    vectors, choice = _world(1024)
    sizes = np.where(np.arange(len(vectors)) % 7 == 3, SIZE, 0)
    number = np.full(1, 1.0, np.float32)
    lists, _ = choice.choose(vectors[9, :1], 50 * number, np.float32(0.95) * number, choice.listed(sizes))
    assert (lists[lists >= 0] % 7 == 3).all()
    mine = vectors[sizes > 0] @ vectors[9, 0]
    least = np.sort(mine.ravel())[-50]
    assert (vectors[lists[0]] @ vectors[9, 0] >= least).sum() >= 45
