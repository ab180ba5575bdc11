"""A seeded generator of ratings whose truth is known: users in clusters with conflicting tastes.

Every item has a hidden quality and a topic, shown as its genre. Every cluster of users likes some topics and dislikes
others, and the tastes of all clusters sum to zero over each topic: on average over users no topic is better than
another, so a model of the average user learns nothing from topics, while a user's own cluster tells everything. With
``conflict=0`` all users share the items' quality and nothing else: the homogeneous case, where personalisation has
nothing to gain.

A rating is ``3.4 + quality + conflict * taste[cluster, topic] + noise``, rounded to half stars within 0.5 to 5. Users
rate popular items more often, as people do; popularity is independent of quality and topic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.interactions import Interactions, build_interactions

_FIRST_SECOND = 1_500_000_000
_MEAN_RATING = 3.4


@dataclass(frozen=True)
class Synthetic:
    """Generated ratings and the truth behind them.

    Attributes:
        interactions: The ratings; users and items are numbered as below.
        cluster: int32 [users], each user's cluster.
        topic: int32 [items + 1], each item's topic; the padding's is -1.
        taste: float64 [clusters, topics], what each cluster thinks of each topic; every column sums to 0.
    """

    interactions: Interactions
    cluster: NDArray[np.int32]
    topic: NDArray[np.int32]
    taste: NDArray[np.float64]


def generate_synthetic(
    *,
    users: int = 400,
    items: int = 600,
    clusters: int = 4,
    topics: int = 12,
    ratings_per_user: tuple[int, int] = (30, 150),
    conflict: float = 1.0,
    noise: float = 0.5,
    seed: int = 1,
) -> Synthetic:
    """Generate ratings.

    Args:
        users: How many users.
        items: How many items; some may never be rated and are then left out.
        clusters: Groups of like-minded users.
        topics: Groups of items that a cluster likes or dislikes together.
        ratings_per_user: Fewest and most ratings of a user, drawn log-uniformly.
        conflict: How far the clusters' tastes lie apart, in stars; 0 makes the users homogeneous.
        noise: Standard deviation of a rating's noise, in stars.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.arange(users) % clusters).astype(np.int32)
    taste = _conflicting_tastes(clusters, topics, rng)
    topic = (rng.permutation(items) % topics).astype(np.int32)
    quality = rng.normal(0.0, 0.4, items)
    popularity = rng.permutation((np.arange(items) + 10.0) ** -0.8)
    fewest, most = (min(n, items // 2) for n in ratings_per_user)
    count = np.exp(rng.uniform(np.log(fewest), np.log(most), users)).round().astype(np.int64)
    user = np.repeat(np.arange(users), count)
    item = np.concatenate([rng.choice(items, n, replace=False, p=popularity / popularity.sum()) for n in count])
    opinion = quality[item] + conflict * taste[cluster[user], topic[item]] + rng.normal(0.0, noise, len(item))
    rating = np.clip(np.round(2 * (_MEAN_RATING + opinion)) / 2, 0.5, 5.0)
    data = build_interactions(
        "synthetic", user_ids=user, item_ids=item, rating=rating, time_s=_event_times(count, rng),
        genres_of={i: (f"topic {topic[i]}",) for i in range(items)}, titles={}, synthetic=True,
        genre_names=[f"topic {t}" for t in range(topics)],
    )  # fmt: skip
    return Synthetic(data, cluster, np.append(np.int32(-1), topic[np.unique(item)]), taste)


def generate_homogeneous(*, users: int = 400, items: int = 600, seed: int = 1) -> Synthetic:
    """Ratings of users who differ in nothing but chance: personalisation has nothing to gain."""
    return generate_synthetic(users=users, items=items, conflict=0.0, seed=seed)


def _conflicting_tastes(clusters: int, topics: int, rng: np.random.Generator) -> NDArray[np.float64]:
    # Each topic is liked by one half of the clusters and disliked by the other, so its mean over clusters is 0.
    opinions = np.where(np.arange(clusters) < clusters // 2, 1.0, -1.0)
    columns = [rng.permutation(opinions - opinions.mean()) for _ in range(topics)]
    return np.stack(columns, axis=1)


def _event_times(count: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    starts = rng.integers(0, 10**7, len(count))
    within = np.concatenate([np.cumsum(rng.integers(1, 3600, n)) for n in count])
    times: NDArray[np.int64] = _FIRST_SECOND + np.repeat(starts, count) + within
    return times
