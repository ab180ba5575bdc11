"""Small synthetic samples of the MovieLens shape: users in clusters, each cluster likes its own part of the items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema

ITEMS = 61
GENRES = 5
SCHEMA = FeatureSchema(
    (
        Feature("item", FeatureKind.CATEGORICAL, vocabulary=ITEMS, table="item"),
        Feature("genres", FeatureKind.MULTIVALUED, length=2, vocabulary=GENRES, table="genre"),
        Feature("liked", FeatureKind.SEQUENCE, length=4, vocabulary=ITEMS, table="item"),
        Feature("disliked", FeatureKind.SEQUENCE, length=4, vocabulary=ITEMS, table="item"),
    )
)


def user_samples(user: int, samples: int = 20, *, clusters: int = 3, seed: int = 1) -> SampleBatch:
    """One user's samples in time order: items of the user's cluster (item mod clusters) are liked, others are not."""
    rng = np.random.default_rng([seed, user])
    item = rng.integers(1, ITEMS, samples).astype(np.int32)
    label = (item % clusters == user % clusters).astype(np.float32)
    time_s = 1_000_000 + 1000 * np.arange(samples) + rng.integers(0, 900, samples)
    features = {
        "item": item,
        "genres": np.stack([item % (GENRES - 1) + 1, np.zeros_like(item)], axis=1),
        "liked": _history(item, label == 1),
        "disliked": _history(item, label == 0),
    }
    return SampleBatch(SCHEMA, features, label, time_s.astype(np.int64))


def _history(item: NDArray[np.int32], counts: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Before each sample, the last 4 items that count, newest last."""
    history = np.zeros((len(item), 4), np.int32)
    past: list[int] = []
    for row, (one, counted) in enumerate(zip(item.tolist(), counts.tolist(), strict=True)):
        if past:
            history[row, -len(past) :] = past
        past = [*past, one][-4:] if counted else past
    return history
