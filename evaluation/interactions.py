"""Who rated what and when: the one form that every dataset takes before samples are made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_GENRES = 6


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
    def digest(self) -> str:
        """Names the ratings: equal for equal users, items, ratings, times and genres, in 32 hexadecimal digits."""
        found = hashlib.sha256()
        for column in (self.user, self.item, self.rating, self.time_s, self.genres):
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
        user_names=tuple(str(u) for u in users),
        item_names=("", *(titles.get(int(i), f"item {i}") for i in items)),
        genre_names=("", *genre_names),
        synthetic=synthetic,
        duplicates=len(order) - len(rows),
    )


def _genre_matrix(
    items: NDArray[Any], genres_of: Mapping[int, Sequence[str]], names: Sequence[str]
) -> NDArray[np.int32]:
    number = {name: index for index, name in enumerate(names, start=1)}
    matrix = np.zeros((len(items) + 1, MAX_GENRES), np.int32)
    for row, item in enumerate(items, start=1):
        numbers = [number[name] for name in genres_of.get(int(item), ())[:MAX_GENRES]]
        matrix[row, : len(numbers)] = numbers
    return matrix
