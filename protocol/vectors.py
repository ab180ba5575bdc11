"""The space in which cloud and device call samples alike: one vector a sample, of who saw it and what was seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Their squares sum to 1: unit user and item vectors make a unit vector, and inner product is cosine similarity.
# Taste weighs most: what carries over to a device is what people of like taste did, on items near the device's own.
USER_WEIGHT = float(np.sqrt(0.8))
ITEM_WEIGHT = float(np.sqrt(0.2))


def sample_vectors(user_vector: NDArray[np.float32], item_vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Join the two vectors that a recommender's `embed` signature gives for each sample.

    Args:
        user_vector: float32 [n, du], L2-normalised (zero for a user without history).
        item_vector: float32 [n, di], L2-normalised.

    Returns:
        float32 [n, du + di]; the inner product of two rows is 0.8 x the users' cosine + 0.2 x the items'.

    Raises:
        ValueError: If the two do not have one row a sample.
    """
    if user_vector.ndim != 2 or item_vector.ndim != 2 or len(user_vector) != len(item_vector):
        raise ValueError(f"one user and one item vector a sample, got {user_vector.shape} and {item_vector.shape}")
    users = user_vector.shape[1]
    joined = np.empty((len(user_vector), users + item_vector.shape[1]), np.float32)
    np.multiply(user_vector, USER_WEIGHT, out=joined[:, :users], casting="unsafe")
    np.multiply(item_vector, ITEM_WEIGHT, out=joined[:, users:], casting="unsafe")
    return joined
