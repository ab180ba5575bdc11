"""The user's histories on the device, and the features of items as the model takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadRequestError
from edge.feedback.labelling import EventRules
from edge.feedback.values import column_of
from edge.storage.database import Database
from protocol.samples import SampleBatch
from protocol.schema import MAX_FEATURE_LENGTH, Feature, FeatureKind, FeatureSchema

LIKED, SKIPPED = "liked", "skipped"


class Histories:
    """The newest items of each side, in memory and on disk."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sides: dict[str, deque[int]] = {}
        self.reload()

    def reload(self) -> None:
        """Read what is on disk."""
        for side in (LIKED, SKIPPED):
            found = self._database.rows("SELECT item FROM history WHERE side = ? ORDER BY number", side)
            self._sides[side] = deque((item for (item,) in found), MAX_FEATURE_LENGTH)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Changes in the body that do not come to stand on disk do not stand in memory either."""
        try:
            yield
        except BaseException:
            self.reload()
            raise

    def append(self, side: str, item: int) -> None:
        """Add an item; call it in the transaction of its event."""
        with self._database.transaction() as rows:
            rows.execute("INSERT INTO history (side, item) VALUES (?, ?)", (side, item))
            rows.execute(
                "DELETE FROM history WHERE side = ?1 AND number <= (SELECT number FROM history WHERE side = ?1"
                " ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                (side, MAX_FEATURE_LENGTH),
            )
        self._sides[side].append(item)

    def newest(self, side: str, length: int) -> list[int]:
        """The last items, oldest first."""
        return list(self._sides[side])[-length:]


@dataclass(frozen=True)
class Featuriser:
    """Makes the features of items as they are now: what the app tells, the user's histories, zeros for the rest.

    Attributes:
        schema: The features.
        rules: Which feature is the item, and which histories are of skipped ones.
        histories: The user's.

    Raises:
        BadRequestError: If the schema has no such feature.
    """

    schema: FeatureSchema
    rules: EventRules
    histories: Histories

    def __post_init__(self) -> None:
        if self.rules.item_feature not in self._names:
            raise BadRequestError(
                f"the model has no feature {self.rules.item_feature}: set events.item_feature in the device's "
                "configuration"
            )

    @property
    def _names(self) -> list[str]:
        return [feature.name for feature in self.schema.features]

    def features(
        self, items: list[Any], columns: Mapping[str, Any], context: Mapping[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Columns [n, ...] by feature.

        Args:
            items: Ids, [n].
            columns: The app's, by feature: a list of one value an item.
            context: The app's, by feature: one value for all items.

        Raises:
            BadRequestError: If a value does not fit its feature, a feature is unknown, or a column has another length.
        """
        context = context or {}
        others = {*self._names} - {self.rules.item_feature}
        if unknown := {*columns, *context} - others:
            raise BadRequestError(f"features {sorted(unknown)[:4]} are not among the model's others: {sorted(others)}")
        found = {f.name: self._column(f, items, columns, context) for f in self.schema.features}
        for name, column in found.items():
            if len(column) != len(items):
                raise BadRequestError(f"feature {name}: {len(column)} values for {len(items)} items")
        return found

    def _column(
        self, feature: Feature, items: list[Any], columns: Mapping[str, Any], context: Mapping[str, Any]
    ) -> NDArray[Any]:
        if feature.name == self.rules.item_feature:
            return column_of(feature, items)
        if feature.name in columns:
            return column_of(feature, columns[feature.name])
        value = context.get(feature.name)
        if value is None:
            value = self._history(feature)
        one = np.zeros(feature.shape(1), feature.dtype) if value is None else column_of(feature, [value])
        return np.repeat(one, len(items), axis=0)

    def _history(self, feature: Feature) -> list[int] | None:
        if feature.kind is not FeatureKind.SEQUENCE or feature.table != self.schema[self.rules.item_feature].table:
            return None
        side = SKIPPED if feature.name in self.rules.disliked_features else LIKED
        return self.histories.newest(side, feature.length)

    def sample(self, item: int, told: Mapping[str, Any], label: float, time_s: int) -> SampleBatch:
        """One sample, of what was told of an item."""
        features = self.features([item], {name: [value] for name, value in told.items()})
        return SampleBatch(self.schema, features, np.array([label], np.float32), np.array([time_s], np.int64))
