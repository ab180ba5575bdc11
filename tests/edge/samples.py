"""Synthetic samples with a truth that a person can see: even-numbered items please those with even histories."""

from __future__ import annotations

import numpy as np

from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema

ITEMS = 60
SCHEMA = FeatureSchema(
    (
        Feature("item", FeatureKind.CATEGORICAL, 1, ITEMS, "item"),
        Feature("genres", FeatureKind.MULTIVALUED, 3, 8, "genre"),
        Feature("liked", FeatureKind.SEQUENCE, 5, ITEMS, "item"),
        Feature("disliked", FeatureKind.SEQUENCE, 5, ITEMS, "item"),
    )
)


def samples(count: int, *, taste: int = 0, seed: int = 0, noise: float = 0.1) -> SampleBatch:
    """Samples of people who like items of parity ``taste``; ``noise`` of the labels are flipped."""
    rng = np.random.default_rng(seed)
    item = rng.integers(1, ITEMS, count).astype(np.int32)
    halves = rng.integers(1, ITEMS // 2, (2, count, 5))
    liked, disliked = 2 * halves[0] - taste, 2 * halves[1] - (1 - taste)
    flipped = rng.random(count) < noise
    features = {
        "item": item,
        "genres": rng.integers(0, 8, (count, 3)).astype(np.int32),
        "liked": liked.astype(np.int32),
        "disliked": disliked.astype(np.int32),
    }
    label = ((item % 2 == taste) ^ flipped).astype(np.float32)
    return SampleBatch(SCHEMA, features, label, np.arange(1_000, 1_000 + count, dtype=np.int64))
