"""The matching query's content: a few centroids of the device's own sample vectors. The samples themselves stay.

Where the owner allows it, the query also says which of the latest items the device liked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.learning.trainer import Trainer
from protocol.messages import Query
from protocol.opinions import pack_opinions
from protocol.recipe import Recipe
from protocol.samples import SampleBatch
from protocol.topics import MAX_PROFILE_BYTES
from protocol.vectors import sample_vectors

LLOYD_ITERATIONS = 25


@dataclass(frozen=True)
class Profile:
    """What the device tells about its samples.

    Attributes:
        centroids: float16 [k, d]; at most 1 KB.
        weights: Share of the samples nearest to each centroid, summing to 1.
    """

    centroids: NDArray[np.float16]
    weights: tuple[float, ...]

    def query(self, query_id: str, task_version: int, model_sha256: str, recipe: Recipe) -> Query:
        """The message that asks for samples near these centroids."""
        return Query(
            query_id=query_id,
            task_version=task_version,
            model_sha256=model_sha256,
            dimensions=self.centroids.shape[1],
            centroids=self.centroids.astype("<f2").tobytes(),
            weights=self.weights,
            max_samples=recipe.match_samples,
            max_bytes=recipe.match_bytes,
        )


def build_profile(recommender: Trainer, local: SampleBatch, recipe: Recipe) -> Profile:
    """Profile the local samples in h0's vector space.

    Args:
        recommender: Gives the vectors; reset to h0 first.
        local: At least one sample.
        recipe: Gives the number of centroids, lowered to what 1 KB holds, and the seed.

    Raises:
        ValueError: If there is no sample, or one centroid alone exceeds 1 KB.
    """
    recommender.reset()
    vectors = sample_vectors(*recommender.model.embed(local.features))
    most = MAX_PROFILE_BYTES // (2 * vectors.shape[1])
    if most == 0 or len(vectors) == 0:
        raise ValueError(f"cannot profile {len(vectors)} samples of {vectors.shape[1]} dimensions within 1 KB")
    centroids, nearest = k_means(vectors, min(recipe.profile_centroids, most), np.random.default_rng(recipe.seed))
    counts = np.bincount(nearest, minlength=len(centroids))
    occupied = counts > 0
    weights = tuple((counts[occupied] / counts.sum()).tolist())
    return Profile(centroids[occupied].astype(np.float16), weights)


def opinions_of(local: SampleBatch, recipe: Recipe) -> bytes | None:
    """What the device says of its items beside a profile, for a query; None where the recipe does not ask for it.

    Args:
        local: Its samples, the oldest first, with the items' own ids.
        recipe: Says of how many.
    """
    item = local.schema.item
    if not recipe.opinions or item is None:
        return None
    return pack_opinions(local.features[item.name], local.label, recipe.opinions)


def k_means(
    vectors: NDArray[np.float32], clusters: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Lloyd's algorithm from a k-means++ start.

    Args:
        vectors: float32 [n, d], n >= 1.
        clusters: Wanted clusters; there are never more than distinct vectors.
        rng: Source of the start.

    Returns:
        Centroids float32 [k, d], and the cluster of each vector, [n].
    """
    centroids = _spread_start(vectors, clusters, rng)
    nearest = _nearest(vectors, centroids)
    for _ in range(LLOYD_ITERATIONS):
        for cluster in np.unique(nearest):  # an emptied cluster stays where it was
            centroids[cluster] = vectors[nearest == cluster].mean(axis=0)
        moved = _nearest(vectors, centroids)
        if np.array_equal(moved, nearest):
            break
        nearest = moved
    return centroids, nearest


def _spread_start(vectors: NDArray[np.float32], clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    chosen = [vectors[rng.integers(len(vectors))]]
    distance = np.square(vectors - chosen[0]).sum(axis=1, dtype=np.float64)
    while len(chosen) < clusters and distance.max() > 1e-9:
        chosen.append(vectors[rng.choice(len(vectors), p=distance / distance.sum())])
        distance = np.minimum(distance, np.square(vectors - chosen[-1]).sum(axis=1, dtype=np.float64))
    return np.stack(chosen)


def _nearest(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.intp]:
    # |v - c|^2 without the term that is the same for every c
    closeness = vectors @ centroids.T - 0.5 * np.square(centroids).sum(axis=1)
    nearest: NDArray[np.intp] = np.argmax(closeness, axis=1)
    return nearest
