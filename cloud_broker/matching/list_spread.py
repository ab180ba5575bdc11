"""How near the vectors of each list are likely to be to a query.

Their inner products are taken to spread about the centre's like a normal distribution, see `list_choice`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.codebooks import Floats

# Q(z), the share of a normal distribution that lies z widths or more above its middle, is about exp(-(a z + b) z - c):
# Lopez-Benitez and Casadevall, IEEE Trans. Commun. 59 (2011), for z >= 0; below _LOWEST it is kept level.
_A, _B, _C = np.float32(0.3842), np.float32(0.7640), np.float32(0.6964)
_LOWEST = np.float32(-0.9)


@dataclass(frozen=True)
class Lists:
    """Lists that queries [m] might look through, those of one query after another's, each query's at least one.

    Attributes:
        begins: int64 [m], where each query's begin.
        counts: int64 [m], how many each has.
        firsts: int64 [n / seconds], which first centres they are of, all lists of each.
        near: float32 [n], inner products with their centres.
        width: float32 [n], how wide their vectors' inner products spread.
        many: float32 [n], how many vectors each has.
    """

    begins: NDArray[np.int64]
    counts: NDArray[np.int64]
    firsts: NDArray[np.int64]
    near: Floats
    width: Floats
    many: Floats

    def each(self, values: NDArray[Any]) -> NDArray[Any]:
        """Each query's value [m] for all its lists, [n]."""
        found: NDArray[Any] = values.repeat(self.counts)
        return found

    def sums(self, values: Floats) -> Floats:
        """Of values [n], those of each query, [m]."""
        total: Floats = np.add.reduceat(values, self.begins)
        return total


@dataclass(frozen=True)
class Halves:
    """How near queries [m] are to the centres of both halves, and how wide vectors spread about these.

    Attributes:
        near: float32 [m, firsts].
        variance: float32 [m, firsts].
        second_near: float32 [m, seconds].
        second_variance: float32 [m, seconds].
        many: float32 [firsts, seconds], how many vectors each list has.
    """

    near: Floats
    variance: Floats
    second_near: Floats
    second_variance: Floats
    many: Floats

    def all_lists(self) -> Lists:
        """Of all pairs of centres."""
        return self.lists(np.arange(self.near.size), np.full(len(self.near), self.near.shape[1]))

    def lists(self, at: NDArray[np.int64], counts: NDArray[np.int64]) -> Lists:
        """Of the first centres at places of ``near``, of which each query has ``counts`` [m]."""
        firsts = at - (np.arange(len(counts)) * self.near.shape[1]).repeat(counts)
        seconds = self.many.shape[1]
        # Repeated and added, which takes a quarter of the time of adding a column to rows as short as these.
        near, width = self.near.take(at).repeat(seconds), self.variance.take(at).repeat(seconds)
        near += self.second_near.repeat(counts, axis=0).ravel()
        width += self.second_variance.repeat(counts, axis=0).ravel()
        width += np.float32(1e-12)
        return Lists(
            (np.cumsum(counts) - counts) * seconds,
            counts * seconds,
            firsts,
            near,
            np.sqrt(width, out=width),
            self.many.take(firsts, axis=0).ravel(),
        )


def above_all(lists: Lists) -> Floats:
    """Nearer than nearly everything in each query's lists, [m]."""
    found: Floats = np.maximum.reduceat(lists.near + 3 * lists.width, lists.begins)
    return found


def thresholds_of(lists: Lists, counts: Floats, thresholds: Floats, steps: int) -> Floats:
    """How near the k-th nearest of each query's lists is likely to be, [m].

    By Newton's method on the logarithm of how many are nearer.

    Args:
        lists: Those that are counted.
        counts: float32 [m], k.
        thresholds: float32 [m], where it begins.
        steps: How many it takes.
    """
    most = lists.sums(lists.many) * np.float32(0.7)
    wanted = np.log(np.maximum(np.minimum(counts, most), np.float32(0.5)))
    slope_of = 1 / lists.width
    for _ in range(steps):
        z = lists.each(thresholds)
        z -= lists.near
        z *= slope_of
        np.maximum(z, _LOWEST, out=z)
        nearer = tail(z)
        nearer *= lists.many
        z *= 2 * _A
        z += _B
        z *= slope_of
        z *= nearer
        expected = lists.sums(nearer) + np.float32(1e-20)
        falls = lists.sums(z) / expected
        thresholds = thresholds + (np.log(expected) - wanted) / np.maximum(falls, np.float32(1e-3))
    return thresholds


def tail(z: Floats) -> Floats:
    """The share of a normal distribution that lies ``z`` widths or more above its middle, nearly, for z >= -0.9."""
    found: Floats = z * -_A
    found -= _B
    found *= z
    found -= _C
    return np.exp(found, out=found)
