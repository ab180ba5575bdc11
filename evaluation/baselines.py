"""Scorers without a neural network: the marks that a global model has to beat.

Each is fitted on the pool's ratings and scores any items. All are plain counting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.samples import SampleBatch

Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ItemMean:
    """Mean label of each item, drawn toward the overall mean as if by ``smoothing`` more samples.

    Attributes:
        mean: float64 [items + 1].
    """

    mean: NDArray[np.float64]

    @classmethod
    def fit(cls, pool: SampleBatch, *, smoothing: float = 5.0) -> ItemMean:
        """Count the pool's labels; needs a feature ``item``."""
        item, label = pool.features["item"], pool.label.astype(np.float64)
        size = pool.schema["item"].vocabulary or int(item.max(initial=0)) + 1
        overall = float(label.mean()) if len(label) else 0.5
        total, count = np.bincount(item, label, size), np.bincount(item, minlength=size)
        return cls((total + smoothing * overall) / (count + smoothing))

    def score(self, item: Ids) -> NDArray[np.float64]:
        """The items' smoothed means, [n]."""
        return self.mean[item]


@dataclass(frozen=True)
class Popularity:
    """How often an item is a positive in the pool.

    Attributes:
        count: float64 [items + 1].
    """

    count: NDArray[np.float64]

    @classmethod
    def fit(cls, pool: SampleBatch) -> Popularity:
        """Count the pool's positives; needs a feature ``item``."""
        size = pool.schema["item"].vocabulary or 0
        return cls(np.bincount(pool.features["item"], pool.label, size).astype(np.float64))

    def score(self, item: Ids) -> NDArray[np.float64]:
        """The items' counts, [n]."""
        return self.count[item]


@dataclass(frozen=True)
class UserKnn:
    """Scores an item by what the most similar users of the pool liked (cosine of liked items).

    Attributes:
        likes: float32 [users, items + 1], rows of pool users, 1 where the user has the item as a positive.
        norm: float32 [users], length of each row.
        neighbours: How many users vote.
    """

    likes: NDArray[np.float32]
    norm: NDArray[np.float32]
    neighbours: int = 50

    @classmethod
    def fit(cls, pool: SampleBatch, owner: Ids, *, neighbours: int = 50) -> UserKnn:
        """Collect the pool users' positives.

        Args:
            pool: Samples with a feature ``item``.
            owner: [n], each sample's user.
            neighbours: How many users vote.
        """
        users, row = np.unique(owner, return_inverse=True)
        likes = np.zeros((len(users), pool.schema["item"].vocabulary or 0), np.float32)
        positive = pool.label > 0.5
        likes[row[positive], pool.features["item"][positive]] = 1.0
        return cls(likes, np.sqrt(likes.sum(axis=1)), neighbours)

    def score(self, liked: Ids, item: Ids) -> NDArray[np.float64]:
        """Similarity-weighted votes for items [n], of a user who liked ``liked`` [m]; all 0 without common ground."""
        mine = np.unique(liked[liked > 0])
        similarity = self.likes[:, mine].sum(axis=1) / np.maximum(self.norm, 1.0) / np.sqrt(max(1, len(mine)))
        nearest = np.argsort(-similarity, kind="stable")[: self.neighbours]
        votes: NDArray[np.float64] = similarity[nearest].astype(np.float64) @ self.likes[nearest].astype(np.float64)
        return votes[item]
