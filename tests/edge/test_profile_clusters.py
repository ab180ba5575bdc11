"""Clusters of sample vectors."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.learning.profile import k_means


def test_separate_clusters_are_found() -> None:
    """Three well-separated clouds give their three means."""
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    vectors = (centres[rng.integers(0, 3, 300)] + rng.normal(0, 0.1, (300, 2))).astype(np.float32)
    centroids, _ = k_means(vectors, 3, rng)
    distance = np.linalg.norm(centroids[:, None] - centres[None], axis=2)
    assert (distance.min(axis=1) < 0.1).all()
    assert sorted(distance.argmin(axis=1)) == [0, 1, 2]


@settings(deadline=None)
@given(samples=st.integers(1, 40), clusters=st.integers(1, 12), distinct=st.integers(1, 5), seed=st.integers(0, 99))
def test_never_more_clusters_than_distinct_vectors(samples: int, clusters: int, distinct: int, seed: int) -> None:
    """Few or repeated samples give fewer clusters, all finite, and each sample belongs to one of them."""
    rng = np.random.default_rng(seed)
    vectors = np.eye(8, dtype=np.float32)[rng.integers(0, distinct, samples)]
    centroids, nearest = k_means(vectors, clusters, rng)
    assert len(centroids) <= min(clusters, len(np.unique(vectors, axis=0)))
    assert np.isfinite(centroids).all()
    assert nearest.min() >= 0
    assert nearest.max() < len(centroids)
