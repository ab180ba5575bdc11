"""The generator: seeded, and of the truth it states."""

from __future__ import annotations

import numpy as np

from evaluation.synthetic import generate_homogeneous, generate_synthetic


def test_the_same_seed_gives_the_same_ratings() -> None:
    """And it is marked as synthetic."""
    first, again = (generate_synthetic(users=20, items=60, seed=4).interactions for _ in range(2))
    assert first.synthetic
    assert first.rating.tolist() == again.rating.tolist()


def test_tastes_conflict_and_cancel() -> None:
    """Over the clusters each topic's taste sums to zero, and no topic is loved by all."""
    world = generate_synthetic()
    assert np.abs(world.taste.sum(axis=0)).max() < 1e-9
    assert (world.taste.min(axis=0) < 0).all()
    assert (world.taste.max(axis=0) > 0).all()


def test_ratings_follow_the_users_own_cluster() -> None:
    """Topics a cluster likes are rated well over a star higher than those it dislikes; without conflict, alike."""
    for world, least, most in ((generate_synthetic(), 1.2, 2.2), (generate_homogeneous(), -0.15, 0.15)):
        data = world.interactions
        liked = world.taste[world.cluster[data.user], world.topic[data.item]] > 0
        gap = float(data.rating[liked].mean() - data.rating[~liked].mean())
        assert least < gap < most


def test_items_show_their_topic_as_their_genre() -> None:
    """The model can see what the truth is made of."""
    world = generate_synthetic(users=30, items=50)
    data = world.interactions
    shown = [data.genre_names[genre] for genre in data.genres[1:, 0]]
    assert shown == [f"topic {topic}" for topic in world.topic[1:]]
