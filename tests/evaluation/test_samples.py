"""Samples: labels, histories without a look ahead, negatives nobody rated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.interactions import LIKED_RATING, Interactions, build_interactions
from evaluation.samples import HISTORY_LENGTH, NEGATIVES, Labels, build_samples
from evaluation.synthetic import generate_synthetic


def _interactions(rows: list[tuple[int, int, float, int]]) -> Interactions:
    user, item, rating, time_s = (np.array(column) for column in zip(*rows, strict=True))
    return build_interactions(
        "rows", user_ids=user, item_ids=item, rating=rating, time_s=time_s, genres_of={}, titles={}, genre_names=["g"]
    )


_RATINGS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 30), st.sampled_from([1.0, 3.5, 4.0, 5.0]), st.integers(0, 6)),
    min_size=1,
    max_size=80,
)


def _expected_history(data: Interactions, row: int, *, liked: bool) -> list[int]:
    earlier = range(int(data.starts[data.user[row]]), row)
    items = [int(data.item[i]) for i in earlier if (data.rating[i] >= LIKED_RATING) == liked][-HISTORY_LENGTH:]
    return [0] * (HISTORY_LENGTH - len(items)) + items


@settings(deadline=None, max_examples=40)
@given(_RATINGS)
def test_a_history_is_exactly_what_the_user_rated_earlier(rows: list[tuple[int, int, float, int]]) -> None:
    """Every explicit sample's histories equal a plain loop over the user's earlier ratings, ties included."""
    data = _interactions(rows)
    batch = build_samples(data, Labels.EXPLICIT).batch
    for row in range(len(data)):
        assert batch.features["liked"][row].tolist() == _expected_history(data, row, liked=True)
        assert batch.features["disliked"][row].tolist() == _expected_history(data, row, liked=False)


@settings(deadline=None, max_examples=40)
@given(_RATINGS, st.integers(0, 3))
def test_negatives_are_items_their_user_never_rated(rows: list[tuple[int, int, float, int]], seed: int) -> None:
    """A user who rated every item is the only exception; everything else of a negative is its positive's."""
    data = _interactions(rows)
    samples = build_samples(data, Labels.IMPLICIT, seed=seed)
    rated = {(int(u), int(i)) for u, i in zip(data.user, data.item, strict=True)}
    everything = {u for u in range(data.users) if data.starts[u + 1] - data.starts[u] == data.items}
    for row in np.flatnonzero(samples.batch.label == 0):
        user, positive = int(samples.owner[row]), row - row % (1 + NEGATIVES)
        assert (user, int(samples.batch.features["item"][row])) not in rated or user in everything
        assert samples.batch.time_s[row] == samples.batch.time_s[positive]
        assert (samples.batch.features["liked"][row] == samples.batch.features["liked"][positive]).all()
        assert samples.event[row] == samples.event[positive]


def test_equal_seconds_keep_their_order_and_nothing_is_in_its_own_history() -> None:
    """Three ratings within one second: each sees only those before it in the file."""
    data = _interactions([(1, 10, 5.0, 7), (1, 20, 5.0, 7), (1, 30, 2.0, 7)])
    batch = build_samples(data, Labels.EXPLICIT).batch
    liked = [[i for i in row if i] for row in batch.features["liked"].tolist()]
    assert liked == [[], [1], [1, 2]]
    assert batch.features["disliked"].sum() == 0


def test_positives_come_first_and_are_followed_by_their_negatives() -> None:
    """Labels run 1 0 0 0 0, and only ratings of 4 or better make samples."""
    data = generate_synthetic(users=30, items=80, seed=2).interactions
    samples = build_samples(data, Labels.IMPLICIT)
    assert samples.batch.label.reshape(-1, 1 + NEGATIVES).tolist() == [[1, 0, 0, 0, 0]] * int((data.rating >= 4).sum())


def test_the_same_seed_draws_the_same_negatives() -> None:
    """And another seed draws others."""
    data = generate_synthetic(users=30, items=80).interactions
    first, again, other = (build_samples(data, Labels.IMPLICIT, seed=s).batch.features["item"] for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_negatives_follow_the_given_popularity() -> None:
    """Items of popularity 0 are not drawn, and one three times as popular is drawn about three times as often."""
    data = _interactions([(u, i, 5.0, t) for t, (u, i) in enumerate((u, i) for u in range(200) for i in range(2))]
                         + [(999, i, 5.0, 0) for i in range(2, 6)])  # fmt: skip
    popularity = np.array([0, 0, 0, 3.0, 1.0, 0, 0])
    batch = build_samples(data, Labels.IMPLICIT, popularity=popularity).batch
    drawn = np.bincount(batch.features["item"][(batch.label == 0)][: 400 * NEGATIVES], minlength=7)
    assert set(np.flatnonzero(drawn)) == {3, 4}
    assert drawn[3] / drawn[4] == pytest.approx(3.0, rel=0.2)


def test_user_rows_are_contiguous_and_in_time_order() -> None:
    """A user's samples are one slice, oldest first."""
    samples = build_samples(generate_synthetic(users=20, items=60).interactions, Labels.EXPLICIT)
    for user in range(20):
        rows = samples.rows_of(user)
        assert (samples.owner[rows] == user).all()
        assert (np.diff(samples.batch.time_s[rows]) >= 0).all()
    assert samples.starts[-1] == len(samples.batch)
