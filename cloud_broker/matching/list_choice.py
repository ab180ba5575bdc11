"""Which lists to look through for a query's nearest: as many as it takes, by what is known of each list.

How near a list's vectors are to a query is taken to spread about its centre like a normal distribution, as wide as the
variances of its two halves say. That tells how near the k-th nearest of all will be and how many of the nearest each
list may have. For most queries a hundredth of the lists has nearly all of them; one that is near to nobody, such as the
mean of very different samples, needs many. Queries that are asked together share: a list is looked through where it is
likely to have some of the nearest, so that least is missed in all, and none misses much.

What a list of a pair of centres is like is a sum of what both are like. So lists are judged a first centre at a time:
those of most first centres are so far away that one bound for all of them is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.codebooks import Codebook, Codebooks, Floats
from cloud_broker.matching.list_spread import Halves, Lists, above_all, tail, thresholds_of
from cloud_broker.matching.vector_index import products

Looked = tuple[NDArray[np.int64], Floats]
"""Lists of each query, int64 [m, most], -1 where one has fewer, and how near their centres are, float32 [m, most]."""

_STEPS = 3  # of Newton's method: it begins near, and two are enough for three digits without a filter
_STEPS_BEFORE, _STEPS_AFTER = 2, 1  # where it is looked for in some of the lists before
_BINS, _BINS_A_WIDTH = 96, 12.0
_SHARES = tail(((np.arange(_BINS) + 0.5) / _BINS_A_WIDTH).astype(np.float32))  # of a list in each bin that are nearer
_LEAST_SHARE = 0.8  # of what a query would have alone, that it has when others are asked with it
_NEAREST_FIRST = 64  # first centres at least, whose lists tell how near the k-th nearest is at least
_FILTERED = 0.5  # of what may be missed, with a filter: alike samples are left out alike, so the rest lie elsewhere
_SELECTIVE = 0.1  # where a smaller share is let through, less may be missed in proportion
_EVERYWHERE = 2**18  # rows in lists that have any, up to which all of these are looked through
_FAR = np.float32(6)  # widths below that, from where on a list has one in a thousand million of its vectors


@dataclass(frozen=True)
class Listed:
    """What may be found.

    Attributes:
        many: float32 [firsts, seconds], how many vectors of each list.
        empty: bool [firsts], of which first centres none.
    """

    many: Floats
    empty: NDArray[np.bool_]

    @property
    def nothing(self) -> bool:
        """Whether none at all may be found."""
        return bool(self.empty.all())


class ListChoice:
    """What is known of an inverted file's lists.

    Attributes:
        everything: All that is in them.
    """

    def __init__(self, books: Codebooks, sizes: NDArray[np.int64]) -> None:
        """Take what the file says; ``sizes`` int64 [lists]."""
        self._books = books
        self._shape = len(books.first.centres), len(books.second.centres)
        self.everything = self.listed(sizes)
        self._known = _columns(books.first), _columns(books.second)

    def listed(self, sizes: NDArray[np.int64]) -> Listed:
        """What `choose` takes, by how many of each list's vectors may be found, int64 [lists]."""
        many = sizes.reshape(self._shape).astype(np.float32)
        return Listed(many, ~many.any(axis=1))

    def choose(self, queries: Floats, counts: Floats, reach: Floats, listed: Listed | None = None) -> Looked:
        """The lists that are expected to have a share ``reach`` of the ``counts`` nearest of all queries together.

        Args:
            queries: float32 [m, d].
            counts: float32 [m], how many of the nearest.
            reach: float32 [m]; 1 for all lists.
            listed: How many of each list's vectors may be found; all if None.

        Returns:
            Each query's lists.
        """
        listed = listed or self.everything
        halves = Halves(*self._judged(queries), listed.many)
        if reach.min() >= 1 and not listed.nothing:
            return _everywhere(halves)
        few = self._shape[0] <= 4 * _NEAREST_FIRST or reach.max() >= 1
        lists, thresholds = _all(halves, counts) if few else _near_enough(halves, counts, listed.empty)
        bins = _bins(lists, thresholds)
        looked = bins <= lists.each(_cuts(lists, bins, reach))
        looked &= lists.many > 0
        return _padded(lists, looked)

    def _judged(self, queries: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Nearness and variance by first centres, and by second ones."""
        (first, second), (by_first, by_second) = self._books.halves(queries), self._known
        return (
            _products(first, by_first[0]),
            _products(np.square(first), by_first[1]),
            _products(second, by_second[0]),
            _products(np.square(second), by_second[1]),
        )


def missed(counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    """How much of what may be missed without a filter may be missed with one.

    Args:
        counts: int64 [lists], how many of each list it lets through.
        sizes: int64 [lists], how many each has.
    """
    share = counts.sum() / max(sizes.sum(), 1)
    if share < _SELECTIVE and sizes[counts > 0].sum() <= _EVERYWHERE:
        return 0.0
    return _FILTERED * float(min(share / _SELECTIVE, 1.0))


def _everywhere(halves: Halves) -> Looked:
    """All lists of which anything may be found, the same for each query."""
    lists, seconds = np.flatnonzero(halves.many), halves.many.shape[1]
    first, second = np.divmod(lists, seconds)
    near = halves.near.take(first, axis=1) + halves.second_near.take(second, axis=1)
    return np.tile(lists, (len(near), 1)), near


def _all(halves: Halves, counts: Floats) -> tuple[Lists, Floats]:
    """All lists, and how near the k-th nearest is likely to be, [m]."""
    lists = halves.all_lists()
    return lists, thresholds_of(lists, counts, above_all(lists), _STEPS)


def _near_enough(halves: Halves, counts: Floats, empty: NDArray[np.bool_]) -> tuple[Lists, Floats]:
    """The lists of all first centres but those that are far from a query's k-th nearest, and how near that is, [m].

    ``empty`` [firsts] are those of whose lists nothing may be found.
    """
    width = np.sqrt(halves.variance + halves.second_variance.max(axis=1, keepdims=True))
    width *= _FAR / 2
    bound = halves.near + width
    bound[:, empty] = -np.inf
    nearest = _among_greatest(bound)
    some = halves.lists(*_places(nearest))
    thresholds = thresholds_of(some, counts, above_all(some), _STEPS_BEFORE)
    least = thresholds - halves.second_near.max(axis=1)
    bound += width
    matter = bound >= least[:, np.newaxis]
    lists = halves.lists(*_places(matter | nearest))
    return lists, thresholds_of(lists, counts, thresholds, _STEPS_AFTER)


def _among_greatest(values: Floats) -> NDArray[np.bool_]:
    """Marks some of the greatest of each row of values [m, n], `_NEAREST_FIRST` or some more: soon, not exactly.

    Values are dealt to twice as many heaps, whose greatest are compared; partitioning all takes five times as long.
    """
    heaps = 2 * _NEAREST_FIRST
    dealt = values[:, : values.shape[1] // heaps * heaps].reshape(len(values), -1, heaps)
    least = np.partition(dealt.max(axis=1), _NEAREST_FIRST, axis=1)[:, _NEAREST_FIRST]
    return values >= least[:, np.newaxis]


def _places(marked: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where rows [m, n] are marked, counted through all of them, and how often each is, [m]."""
    at = np.flatnonzero(marked)
    return at, np.diff(np.searchsorted(at, np.arange(len(marked) + 1) * marked.shape[1]))


def _padded(lists: Lists, looked: NDArray[np.bool_]) -> Looked:
    """Those that are looked through, [n], a row for each query."""
    at = np.flatnonzero(looked)
    many = np.add.reduceat(looked, lists.begins, dtype=np.int64)
    places = np.arange(len(at)) - np.repeat(np.cumsum(many) - many, many)
    most = int(max(many.max(initial=1), 1))
    chosen = np.full((len(many), most), -1, np.int64)
    # faiss scales by the least and greatest value, also of those that it skips.
    near = np.repeat(np.maximum.reduceat(lists.near, lists.begins)[:, np.newaxis], most, axis=1)
    whose = np.repeat(np.arange(len(many)), many)
    seconds = len(lists.near) // len(lists.firsts)
    of_first, second = np.divmod(at, seconds)
    chosen[whose, places], near[whose, places] = lists.firsts[of_first] * seconds + second, lists.near[at]
    return chosen, near


def _products(halves: Floats, columns: Floats) -> Floats:
    return products(halves, columns, np.empty((len(halves), columns.shape[1]), np.float32))


def _columns(book: Codebook) -> tuple[Floats, Floats]:
    """Centres and variances, a column each: so a product with few queries takes half the time."""
    return np.ascontiguousarray(book.centres.T), np.ascontiguousarray(book.variances.T)


def _bins(lists: Lists, thresholds: Floats) -> NDArray[np.int64]:
    """How many widths each list's centre lies below the k-th nearest, in steps, [n]."""
    z = (lists.each(thresholds) - lists.near) / lists.width
    z *= np.float32(_BINS_A_WIDTH)
    np.clip(z, 0, _BINS - 1, out=z)
    return z.astype(np.int64)


def _cuts(lists: Lists, bins: NDArray[np.int64], reach: Floats) -> NDArray[np.int64]:
    """The last bin to be looked through for each query, [m]."""
    of_query = bins + lists.each(np.arange(len(reach)) * _BINS)
    rows = np.bincount(of_query, lists.many, len(reach) * _BINS).reshape(-1, _BINS)
    expected = np.cumsum(rows * _SHARES, axis=1)
    wanted = reach * expected[:, -1]
    together = np.count_nonzero(expected.sum(axis=0) < wanted.sum())
    alone = np.count_nonzero(expected < _LEAST_SHARE * wanted[:, np.newaxis], axis=1)
    cuts: NDArray[np.int64] = np.where(reach >= 1, _BINS - 1, np.maximum(together, alone))
    return cuts
