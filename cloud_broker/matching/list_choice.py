"""Which lists to look through for a query's nearest: as many as it takes, by what is known of each list.

How near a list's vectors are to a query is taken to spread about its centre like a normal distribution, as wide as the
list's variance in each dimension says. That tells how near the k-th nearest of all will be and how many of the nearest
each list may have. For most queries a hundredth of the lists has nearly all of them; one that is near to nobody, such
as the mean of very different samples, needs nearly all. Queries that are asked together share: a list is looked through
where it is likely to have some of the nearest, so that least is missed in all, and none misses much.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.vector_index import products

Floats = NDArray[np.float32]
Looked = tuple[NDArray[np.int64], Floats]
"""Lists of each query, int64 [m, most], -1 where one has fewer, and how near their centres are, float32 [m, most]."""

# Q(z), the share of a normal distribution that lies z widths or more above its middle, is about exp(-(a z + b) z - c):
# Lopez-Benitez and Casadevall, IEEE Trans. Commun. 59 (2011), for z >= 0; below _LOWEST it is kept level.
_A, _B, _C = np.float32(0.3842), np.float32(0.7640), np.float32(0.6964)
_LOWEST = np.float32(-0.9)
_STEPS = 3  # of Newton's method: it begins near, and two are enough for three digits without a filter
_BINS, _BINS_A_WIDTH = 96, 12.0
_LEAST_SHARE = 0.8  # of what a query would have alone, that it has when others are asked with it


class ListChoice:
    """What is known of an inverted file's lists."""

    def __init__(self, centres: Floats, sizes: NDArray[np.int64], squares: NDArray[np.float64]) -> None:
        """Take what the file says.

        Args:
            centres: float32 [lists, d].
            sizes: int64 [lists].
            squares: float64 [lists, d], sums over a list's vectors of the squared distances from its centre.
        """
        self._sizes = sizes.astype(np.float32)
        variances = squares / np.maximum(sizes, 1)[:, np.newaxis]
        # A column a list: so a product with few queries takes half the time.
        self._centres, self._variances = (np.ascontiguousarray(known.T, np.float32) for known in (centres, variances))

    def choose(self, queries: Floats, counts: Floats, reach: Floats, sizes: NDArray[np.int64] | None = None) -> Looked:
        """The lists that are expected to have a share ``reach`` of the ``counts`` nearest of all queries together.

        Args:
            queries: float32 [m, d].
            counts: float32 [m], how many of the nearest.
            reach: float32 [m]; 1 for all lists.
            sizes: int64 [lists], how many of each list's vectors may be found; all if None.

        Returns:
            Each query's lists.
        """
        near, width = (np.empty((len(queries), len(self._sizes)), np.float32) for _ in range(2))
        products(queries, self._centres, near)
        np.sqrt(products(np.square(queries), self._variances, width), out=width)
        width += np.float32(1e-6)
        many = self._sizes if sizes is None else sizes.astype(np.float32)
        bins = _bins(near, width, counts, many)
        looked = bins <= _cuts(bins, reach, many)[:, np.newaxis]
        looked &= many > 0
        return _padded(looked, near)


def _bins(near: Floats, width: Floats, counts: Floats, sizes: Floats) -> NDArray[np.int64]:
    """How many widths each list's centre lies below the k-th nearest, in steps, [m, lists]."""
    z = (_thresholds(near, width, counts, sizes)[:, np.newaxis] - near) / width
    z *= np.float32(_BINS_A_WIDTH)
    np.clip(z, 0, _BINS - 1, out=z)
    return z.astype(np.int64)


def _thresholds(near: Floats, width: Floats, counts: Floats, sizes: Floats) -> Floats:
    """How near the k-th nearest is likely to be, [m]: by Newton's method on the log of how many are nearer."""
    thresholds: Floats = (near + 3 * width).max(axis=1)
    wanted = np.log(np.maximum(np.minimum(counts, sizes.sum() * np.float32(0.7)), np.float32(0.5)))
    slope_of = 1 / width
    for _ in range(_STEPS):
        z = thresholds[:, np.newaxis] - near
        z *= slope_of
        np.maximum(z, _LOWEST, out=z)
        nearer = _tail(z)
        nearer *= sizes
        z *= 2 * _A
        z += _B
        z *= slope_of
        expected = nearer.sum(axis=1) + np.float32(1e-20)
        falls = np.einsum("ml,ml->m", nearer, z) / expected
        thresholds = thresholds + (np.log(expected) - wanted) / np.maximum(falls, np.float32(1e-3))
    return thresholds


def _cuts(bins: NDArray[np.int64], reach: Floats, sizes: Floats) -> NDArray[np.int64]:
    """The last bin to be looked through for each query, [m]."""
    of_query = bins + np.arange(len(bins))[:, np.newaxis] * _BINS
    rows = np.bincount(of_query.ravel(), np.tile(sizes, len(bins)), len(bins) * _BINS).reshape(-1, _BINS)
    middles = ((np.arange(_BINS) + 0.5) / _BINS_A_WIDTH).astype(np.float32)
    expected = np.cumsum(rows * _tail(middles), axis=1)
    wanted = reach * expected[:, -1]
    together = np.count_nonzero(expected.sum(axis=0) < wanted.sum())
    alone = np.count_nonzero(expected < _LEAST_SHARE * wanted[:, np.newaxis], axis=1)
    cuts: NDArray[np.int64] = np.where(reach >= 1, _BINS - 1, np.maximum(together, alone))
    return cuts


def _tail(z: Floats) -> Floats:
    found: Floats = z * -_A
    found -= _B
    found *= z
    found -= _C
    return np.exp(found, out=found)


def _padded(looked: NDArray[np.bool_], near: Floats) -> Looked:
    queries, lists = np.nonzero(looked)
    many = np.bincount(queries, minlength=len(looked))
    begins = np.cumsum(many) - many
    at = np.arange(len(queries)) - begins[queries]
    most = int(max(many.max(initial=1), 1))
    chosen = np.full((len(looked), most), -1, np.int64)
    # faiss scales by the least and greatest value, also of those that it skips.
    nearness = np.repeat(near.max(axis=1, keepdims=True), most, axis=1)
    chosen[queries, at], nearness[queries, at] = lists, near[queries, lists]
    return chosen, nearness
