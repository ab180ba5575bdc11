"""Who rated what and when: the one form that every dataset takes before samples are made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.reading import Reading
from protocol.schema import Feature

MAX_GENRES = 6
LIKED_RATING = 4.0


@dataclass(frozen=True)
class Column:
    """A feature beside item, genres and histories.

    Attributes:
        feature: How it stands in the schema.
        values: Of each item, [items + 1] or [items + 1, length] with the padding's row first; else of each rating.
        of_item: Whether it belongs to the item. A sampled negative has its own item's, and of all else its positive's.
    """

    feature: Feature
    values: NDArray[Any]
    of_item: bool


@dataclass(frozen=True)
class Interactions:
    """n ratings, sorted by user and then by time; ratings of the same second keep the order of their file.

    Attributes:
        name: Of the dataset, for people.
        user: int32 [n], 0 to users - 1, rising.
        item: int32 [n], 1 to items; 0 is padding.
        rating: float32 [n].
        time_s: int64 [n], unix seconds, rising within a user.
        genres: int32 [items + 1, 6], genre ids of an item from 1, padded with 0 behind; row 0 is empty.
        user_names: What the dataset calls each user.
        item_names: What the dataset calls each item; the first entry belongs to the padding.
        genre_names: What the dataset calls each genre; the first entry belongs to the padding.
        synthetic: Whether a generator made it.
        duplicates: Ratings left out because the same user rated the same item earlier.
        liked_rating: A rating counts as liked from this one on.
        columns: Further features.
        reading: How the file was read.
    """

    name: str
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]
    time_s: NDArray[np.int64]
    genres: NDArray[np.int32]
    user_names: tuple[str, ...]
    item_names: tuple[str, ...]
    genre_names: tuple[str, ...]
    synthetic: bool = False
    duplicates: int = 0
    liked_rating: float = LIKED_RATING
    columns: tuple[Column, ...] = ()
    reading: Reading = field(default_factory=Reading)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def users(self) -> int:
        """How many users there are."""
        return len(self.user_names)

    @property
    def items(self) -> int:
        """How many items there are, the padding not counted."""
        return len(self.item_names) - 1

    @property
    def liked(self) -> NDArray[np.bool_]:
        """Bool [n]: which ratings count as liked."""
        return self.rating >= self.liked_rating

    @property
    def digest(self) -> str:
        """Names the ratings and their features by their bytes, in 32 hexadecimal digits."""
        found = hashlib.sha256(repr((self.liked_rating, [column.feature for column in self.columns])).encode())
        more = [column.values for column in self.columns]
        for column in (self.user, self.item, self.rating, self.time_s, self.genres, *more):
            found.update(np.ascontiguousarray(column).data)
        return found.hexdigest()[:32]

    @property
    def starts(self) -> NDArray[np.int64]:
        """int64 [users + 1]: user u's ratings are the rows ``starts[u]:starts[u + 1]``."""
        return np.searchsorted(self.user, np.arange(self.users + 1)).astype(np.int64)


def build_interactions(
    name: str,
    *,
    user_ids: NDArray[Any],
    item_ids: NDArray[Any],
    rating: NDArray[Any],
    time_s: NDArray[Any],
    genres_of: Mapping[int, Sequence[str]],
    titles: Mapping[int, str],
    genre_names: Sequence[str],
    synthetic: bool = False,
    liked_rating: float = LIKED_RATING,
    columns: Sequence[Column] = (),
    user_names: Mapping[int, str] | None = None,
    reading: Reading | None = None,
) -> Interactions:
    """Number users and items densely, sort, and drop repeated ratings (the earliest stays).

    Args:
        name: Of the dataset.
        user_ids: [n], the dataset's own ids.
        item_ids: [n], the dataset's own ids.
        rating: [n].
        time_s: [n], unix seconds.
        genres_of: Genres of an item by the dataset's id; beyond the first six they are left out.
        titles: Name of an item by the dataset's id.
        genre_names: All genres.
        synthetic: Whether a generator made it.
        liked_rating: A rating counts as liked from this one on.
        columns: Further features, all of them [n]: of an item's features, what stands with its earliest rating counts.
        user_names: Name of a user by the dataset's id.
        reading: How the file was read.
    """
    users, user = np.unique(user_ids, return_inverse=True)
    items, item = np.unique(item_ids, return_inverse=True)
    order = np.lexsort((time_s, user))  # lexsort is stable: equal seconds keep the file's order
    _, first = np.unique(user[order].astype(np.int64) * len(items) + item[order], return_index=True)
    rows = order[np.sort(first)]
    return Interactions(
        name=name,
        user=user[rows].astype(np.int32),
        item=(item[rows] + 1).astype(np.int32),
        rating=rating[rows].astype(np.float32),
        time_s=time_s[rows].astype(np.int64),
        genres=_genre_matrix(items, genres_of, genre_names),
        user_names=tuple(str(u) if user_names is None else user_names[int(u)] for u in users),
        item_names=("", *(titles.get(int(i), f"item {i}") for i in items)),
        genre_names=("", *genre_names),
        synthetic=synthetic,
        duplicates=len(order) - len(rows),
        liked_rating=liked_rating,
        columns=tuple(_sorted_column(column, item, rows, len(items)) for column in columns),
        reading=reading or Reading(rows=len(order)),
    )


def some_users(data: Interactions, count: int, seed: int = 1) -> Interactions:
    """The same data with ``count`` whole users, drawn at random; all of it if there are no more than that."""
    if data.users <= count:
        return data
    chosen = np.sort(np.random.default_rng([seed, 0x05E25]).permutation(data.users)[:count])
    number = np.full(data.users, -1, np.int32)
    number[chosen] = np.arange(count, dtype=np.int32)
    rows = number[data.user] >= 0
    return replace(
        data,
        user=number[data.user[rows]],
        item=data.item[rows],
        rating=data.rating[rows],
        time_s=data.time_s[rows],
        user_names=tuple(data.user_names[u] for u in chosen),
        columns=tuple(c if c.of_item else replace(c, values=c.values[rows]) for c in data.columns),
    )


def _sorted_column(column: Column, item: NDArray[Any], rows: NDArray[Any], items: int) -> Column:
    if not column.of_item:
        return replace(column, values=column.values[rows])
    values = np.zeros((items + 1, *column.values.shape[1:]), column.values.dtype)
    values[item[rows[::-1]] + 1] = column.values[rows[::-1]]  # backwards, so that the earliest stays
    return replace(column, values=values)


def _genre_matrix(
    items: NDArray[Any], genres_of: Mapping[int, Sequence[str]], names: Sequence[str]
) -> NDArray[np.int32]:
    number = {name: index for index, name in enumerate(names, start=1)}
    matrix = np.zeros((len(items) + 1, MAX_GENRES), np.int32)
    for row, item in enumerate(items, start=1):
        numbers = [number[name] for name in genres_of.get(int(item), ())[:MAX_GENRES]]
        matrix[row, : len(numbers)] = numbers
    return matrix
