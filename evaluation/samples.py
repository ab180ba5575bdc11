"""Ratings to samples: labels, histories and sampled negatives, all seeded and vectorised.

A sample's history is what its user rated before it, in time order; of ratings within the same second those that stand
earlier in the file count as earlier. The rated item itself is never in its own history, and neither is a sampled
negative, which its user had not rated by then.

Negatives are drawn in proportion to how often an item is a positive, so that an item's popularity alone says nothing
about a label: only what fits this user does. What is learnt from has negatives that its user had not rated *yet*, as a
device would have them; only a test's were never rated. Were all of them never rated, a device that remembered its own
negatives would know a tenth of the test's (ml-100k, 20 events): no positive of the test could be among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.interactions import MAX_GENRES, Interactions
from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema

HISTORY_LENGTH = 20
NEGATIVES = 4
_REDRAWS = 20


class Labels(str, Enum):
    """What a sample's label means."""

    IMPLICIT = "implicit"  # 1: liked; 0: drawn by popularity among items the user never rated
    EXPLICIT = "explicit"  # 1: liked, such as rated 4 or better; 0: rated lower


@dataclass(frozen=True)
class UserSamples:
    """Samples sorted by user and time.

    Attributes:
        batch: The samples.
        owner: int32 [n], each sample's user.
        event: int32 [n], number of the event it comes from among its user's; a positive and its negatives share it.
        starts: int64 [users + 1]: user u's samples are the rows ``starts[u]:starts[u + 1]``.
    """

    batch: SampleBatch
    owner: NDArray[np.int32]
    event: NDArray[np.int32]
    starts: NDArray[np.int64]

    def rows_of(self, user: int) -> slice:
        """The rows of one user."""
        return slice(int(self.starts[user]), int(self.starts[user + 1]))


def movie_schema(data: Interactions) -> FeatureSchema:
    """Features of a sample: the item, its genres, what its user liked and disliked before, and the data's own."""
    items, genres = data.items + 1, max(2, len(data.genre_names))
    return FeatureSchema(
        (
            Feature("item", FeatureKind.CATEGORICAL, 1, items, "item"),
            Feature("genres", FeatureKind.MULTIVALUED, MAX_GENRES, genres, "genre"),
            Feature("liked", FeatureKind.SEQUENCE, HISTORY_LENGTH, items, "item"),
            Feature("disliked", FeatureKind.SEQUENCE, HISTORY_LENGTH, items, "item"),
            *(column.feature for column in data.columns),
        )
    )


def build_samples(
    data: Interactions,
    labels: Labels,
    *,
    popularity: NDArray[Any] | None = None,
    known_until: NDArray[np.int64] | None = None,
    negatives: int = NEGATIVES,
    seed: int = 1,
) -> UserSamples:
    """Every user's samples.

    Args:
        data: The ratings.
        labels: What the labels shall mean.
        popularity: [items + 1], negatives are drawn in proportion to it; by default how often an item is a positive.
            Items of popularity 0 are drawn only for a user who rated everything else.
        known_until: int64 [ratings], number of the last rating of all that bars an item from being a negative of this
            one; None for the last there is, so that negatives were never rated.
        negatives: Negatives for each positive; they share its time and its history.
        seed: Of the negatives.
    """
    liked = data.liked
    rows = np.flatnonzero(liked) if labels is Labels.IMPLICIT else np.arange(len(data))
    history = {"liked": _history(data, liked, rows), "disliked": _history(data, ~liked, rows)}
    item, label = data.item[rows], liked[rows].astype(np.float32)
    if labels is Labels.IMPLICIT:
        weight = count_ratings(data, liked) if popularity is None else popularity
        until = np.full(len(rows), len(data)) if known_until is None else known_until[rows]
        rng = np.random.default_rng(seed)
        drawn = _draw_negatives(data, rows, until, weight, negatives=negatives, rng=rng)
        item = np.concatenate([item[:, None], drawn], axis=1).reshape(-1)
        label = np.concatenate([label[:, None], np.zeros_like(drawn, np.float32)], axis=1).reshape(-1)
        history = {name: np.repeat(values, 1 + negatives, axis=0) for name, values in history.items()}
    repeats = len(item) // max(1, len(rows))
    further = {
        column.feature.name: column.values[item] if column.of_item else np.repeat(column.values[rows], repeats, axis=0)
        for column in data.columns
    }
    features = {"item": item, "genres": data.genres[item], **history, **further}
    owner = np.repeat(data.user[rows], repeats)
    batch = SampleBatch(movie_schema(data), features, label, np.repeat(data.time_s[rows], repeats))
    starts = np.searchsorted(owner, np.arange(data.users + 1)).astype(np.int64)
    return UserSamples(batch, owner, np.repeat(_number_within_user(data.user[rows]), repeats), starts)


def count_ratings(data: Interactions, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How often each item, [items + 1], occurs among the ``chosen`` ratings, bool [n]."""
    return np.bincount(data.item[chosen], minlength=data.items + 1).astype(np.float64)


def _number_within_user(user: NDArray[np.int32]) -> NDArray[np.int32]:
    first = np.searchsorted(user, user)
    return (np.arange(len(user)) - first).astype(np.int32)


def _history(data: Interactions, counts: NDArray[np.bool_], rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """The last items among ``counts`` before each of ``rows``, by the same user: [len(rows), length], newest last."""
    items = data.item[counts]
    before = np.concatenate([[0], np.cumsum(counts)])  # how many stand before each row, over all users
    end, first = before[rows], before[data.starts[data.user[rows]]]
    places = end[:, None] + np.arange(-HISTORY_LENGTH, 0)
    known = places >= first[:, None]
    padded = np.append(items, np.int32(0))
    return np.where(known, padded[np.where(known, places, len(items))], 0).astype(np.int32)


def _draw_negatives(
    data: Interactions,
    rows: NDArray[np.int64],
    known_until: NDArray[np.int64],
    popularity: NDArray[Any],
    *,
    negatives: int,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Items that the rows' users had not rated by ``known_until`` [len(rows)]: int32 [len(rows), negatives]."""
    cumulative = np.cumsum(np.append(0.0, popularity[1:]))
    rating_of = data.user.astype(np.int64) * (data.items + 1) + data.item
    by_key = np.argsort(rating_of, kind="stable")
    rated = rating_of[by_key]
    user = np.repeat(data.user[rows].astype(np.int64), negatives)
    until = np.repeat(known_until, negatives)
    drawn = np.zeros(len(user), np.int32)
    open_places = np.arange(len(user))
    for _ in range(_REDRAWS):
        if len(open_places) == 0:
            break
        tried = np.searchsorted(cumulative, rng.random(len(open_places)) * cumulative[-1], side="right")
        drawn[open_places] = np.minimum(tried, data.items)
        keys = user[open_places] * (data.items + 1) + drawn[open_places]
        found = np.minimum(np.searchsorted(rated, keys), len(rated) - 1)
        open_places = open_places[(rated[found] == keys) & (by_key[found] <= until[open_places])]
    for place in open_places:  # users who rated almost everything popular: draw from what is left to them
        drawn[place] = _draw_unrated(data, int(user[place]), popularity, rng)
    return drawn.reshape(-1, negatives)


def _draw_unrated(data: Interactions, user: int, popularity: NDArray[Any], rng: np.random.Generator) -> int:
    unrated = np.ones(data.items + 1, np.bool_)
    unrated[0] = False
    unrated[data.item[data.starts[user] : data.starts[user + 1]]] = False
    choices = np.flatnonzero(unrated & (popularity > 0))
    if len(choices) == 0:
        choices = np.flatnonzero(unrated)
    if len(choices) == 0:  # rated every item there is: any item must do
        choices = np.arange(1, data.items + 1)
    weight = np.maximum(popularity[choices].astype(np.float64), 1e-9)
    return int(rng.choice(choices, p=weight / weight.sum()))
