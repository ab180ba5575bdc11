"""Lists of vectors by their halves: an inverted multi-index (Babenko and Lempitsky, CVPR 2012).

A sample's vector is who saw it and what was seen, side by side (`protocol.vectors`), and the two vary apart. A few
centres for each half make a list of each pair of them: many lists, each of vectors that are alike in both halves, of
which little has to be known: a query that only one half says anything to is near to a share of that half's centres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.vector_index import Vectors

_faiss: Any = faiss  # its stubs tell of the C++ interface
Floats = NDArray[np.float32]
_ROUNDS = 10  # of k-means
_TRAINED_ON = 64  # samples for each centre


@dataclass(frozen=True)
class Codebook:
    """Centres of one half.

    Attributes:
        centres: float32 [k, w].
        squares: float64 [k, w], sums over the vectors nearest to a centre of the squared distances from it; grows.
        counts: float64 [k], how many vectors that are; grows.
    """

    centres: Floats
    squares: NDArray[np.float64]
    counts: NDArray[np.float64]

    @property
    def variances(self) -> Floats:
        """How far vectors spread about each centre, [k, w]."""
        found: Floats = (self.squares / np.maximum(self.counts, 1)[:, np.newaxis]).astype(np.float32)
        return found

    def nearest(self, halves: Vectors) -> NDArray[np.int64]:
        """The centre that each is nearest to, [n]."""
        if len(self.centres) == 1:
            return np.zeros(len(halves), np.int64)
        found: NDArray[np.int64] = _flat(self.centres).search(np.ascontiguousarray(halves), 1)[1][:, 0]
        return found

    def note(self, mine: NDArray[np.int64], apart: Vectors) -> None:
        """Take in how far vectors [n, w] lie ``apart`` from their centres ``mine`` [n]."""
        self.counts[:] += np.bincount(mine, minlength=len(self.centres))
        for dimension, distances in enumerate(apart.T):
            self.squares[:, dimension] += np.bincount(mine, np.square(distances), len(self.centres))


@dataclass(frozen=True)
class Codebooks:
    """Those of both halves; list ``i * len(second.centres) + j`` is that of the i-th and the j-th centre."""

    first: Codebook
    second: Codebook

    @classmethod
    def learnt(cls, vectors: Vectors, first: int, second: int) -> Codebooks:
        """So many centres of each half, or one where it has no more to tell apart; by k-means over vectors [n, d]."""
        at = _half(vectors.shape[1])
        return cls(_learnt(vectors[:, :at], first), _learnt(vectors[:, at:], second))

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]]) -> Codebooks:
        """What `arrays` gave."""
        names = ("centres", "squares", "counts")
        first, second = (Codebook(*(arrays[f"{half}_{name}"] for name in names)) for half in ("first", "second"))
        return cls(first, second)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To be kept."""
        halves = {"first": self.first, "second": self.second}
        return {f"{half}_{name}": array for half, book in halves.items() for name, array in vars(book).items()}

    def __len__(self) -> int:
        """Lists."""
        return len(self.first.centres) * len(self.second.centres)

    @property
    def width(self) -> int:
        """Dimensions of a vector."""
        return self.first.centres.shape[1] + self.second.centres.shape[1]

    @property
    def centres(self) -> Floats:
        """Those of all lists, [lists, d]."""
        return self._of(np.arange(len(self)))

    def halves(self, vectors: Vectors) -> tuple[Vectors, Vectors]:
        """Vectors [n, d] divided."""
        at = self.first.centres.shape[1]
        return vectors[:, :at], vectors[:, at:]

    def nearest(self, vectors: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        """Each vector's list, [n], and how far it lies from that list's centre in each dimension, [n, d]."""
        first, second = self.halves(vectors)
        lists = self.first.nearest(first) * len(self.second.centres) + self.second.nearest(second)
        return lists, vectors - self._of(lists)

    def note(self, lists: NDArray[np.int64], apart: Vectors) -> None:
        """Take in how far vectors lie apart from the centres of their lists; see `Codebook.note`."""
        of_first, of_second = np.divmod(lists, len(self.second.centres))
        first, second = self.halves(apart)
        self.first.note(of_first, first)
        self.second.note(of_second, second)

    def _of(self, lists: NDArray[np.int64]) -> Floats:
        first, second = np.divmod(lists, len(self.second.centres))
        return np.concatenate([self.first.centres[first], self.second.centres[second]], axis=1)


def _half(width: int) -> int:
    return (width + 1) // 2


def _learnt(halves: Vectors, count: int) -> Codebook:
    width = halves.shape[1]
    chosen = np.linspace(0, len(halves) - 1, min(len(halves), _TRAINED_ON * count)).astype(np.int64)
    some = np.ascontiguousarray(halves[chosen])
    count = min(count, len(some)) if width else 1
    if count <= 1:
        centres = some.mean(axis=0, keepdims=True) if len(some) else np.zeros((1, width), np.float32)
    else:
        means = _faiss.Kmeans(width, count, niter=_ROUNDS, seed=1, min_points_per_centroid=1)
        means.train(some)
        centres = means.centroids
    return Codebook(centres, np.zeros(centres.shape), np.zeros(len(centres)))


def _flat(centres: Floats) -> Any:
    index = _faiss.IndexFlatL2(centres.shape[1])
    index.add(np.ascontiguousarray(centres))
    return index
