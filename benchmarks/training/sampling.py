"""The sampler of a device's round: the Trainer draws from it, and the others get the batches it drew."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.training.job import Array
from edge.learning.sampling import Group, MixedSampler


def sampler(columns: Mapping[str, Array], seed: int) -> MixedSampler:
    """Draws by weight, as matched samples are drawn: the rows do not depend on how many are drawn at once."""
    count = len(columns["label"])
    weights = np.ones(count, np.float32)
    return MixedSampler(columns, [Group(np.arange(count), 1.0, weights)], np.random.default_rng(seed))
