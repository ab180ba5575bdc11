"""Which slot of a model's table holds which id: samples are rewritten from ids to slots before the model sees them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from protocol.errors import MalformedMessageError
from protocol.rows import TableRows
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

Ids = NDArray[np.int32]


class SlotMap:
    """Ids that have a slot; slot 0 is that of id 0, padding.

    Attributes:
        table: The table.
        ids: int32 [used], the id in each slot.

    Args:
        schema: Of the samples.
        table: The table.

    Raises:
        MalformedMessageError: If a sample may have more ids than the table has slots.
    """

    def __init__(self, schema: FeatureSchema, table: TableRows) -> None:
        self.table = table
        self.ids: Ids = np.zeros(1, np.int32)
        features = [feature for feature in schema.features if feature.table == table.table]
        if not features or sum(feature.length for feature in features) >= table.slots:
            raise MalformedMessageError(f"{table.slots} slots do not hold the ids of one sample's {table.table}")
        self._names = tuple(feature.name for feature in features)

    def admit(self, batch: SampleBatch) -> NDArray[np.bool_]:
        """Give slots to the ids of samples, in their order, as long as there are any.

        Returns:
            bool [n], which samples have a slot for each of their ids. One that does not fit takes none, and those after
            it may still fit.
        """
        if not self.fits(batch):
            return self._admit_one_by_one(batch)
        self.ids = np.concatenate([self.ids, self._new_ids(batch)]).astype(np.int32)
        return np.ones(len(batch), np.bool_)

    def fits(self, batch: SampleBatch) -> bool:
        """Whether there are slots for all ids of all samples."""
        return len(self.ids) + len(self._new_ids(batch)) <= self.table.slots

    def _admit_one_by_one(self, batch: SampleBatch) -> NDArray[np.bool_]:
        columns = [batch.features[name].reshape(len(batch), -1) for name in self._names]
        known = dict.fromkeys(self.ids.tolist())
        fits = np.zeros(len(batch), np.bool_)
        for row, ids in enumerate(np.concatenate(columns, axis=1).tolist()):
            new = [number for number in dict.fromkeys(ids) if number not in known]
            if len(known) + len(new) <= self.table.slots:
                known.update(dict.fromkeys(new))
                fits[row] = True
        self.ids = np.array(list(known), np.int32)
        return fits

    def remap(self, batch: SampleBatch) -> SampleBatch:
        """The samples with slots in place of ids.

        Raises:
            ValueError: If an id has no slot: only samples that were admitted can be remapped.
        """
        order = np.argsort(self.ids, kind="stable")
        features = dict(batch.features)
        for name in self._names:
            column = batch.features[name]
            at = np.searchsorted(self.ids, column, sorter=order)
            slots = order[np.minimum(at, len(order) - 1)]
            if not np.array_equal(self.ids[slots], column):
                raise ValueError(f"feature {name} has an id without a slot")
            features[name] = slots.astype(np.int32)
        return SampleBatch(batch.schema, features, batch.label, batch.time_s)

    def arrays(self, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Rows of `ids`, float32 [used, width], as the model's ``set_rows`` takes them: [slots, d] by weight."""
        whole = np.zeros((self.table.slots, self.table.width), np.float32)
        whole[: len(values)] = values
        edges = np.cumsum([column.width for column in self.table.columns])[:-1]
        parts = np.split(whole, edges, axis=1)
        return {c.weight: np.ascontiguousarray(part) for c, part in zip(self.table.columns, parts, strict=True)}

    def values(self, arrays: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Inverse of `arrays`: rows of `ids`, float32 [used, width]. Other weights are ignored."""
        parts = [arrays[column.weight][: len(self.ids)] for column in self.table.columns]
        return np.concatenate(parts, axis=1)

    def _new_ids(self, batch: SampleBatch) -> Ids:
        return np.setdiff1d(np.concatenate([batch.features[name].ravel() for name in self._names]), self.ids)


def in_pieces(batch: SampleBatch, table: TableRows) -> Iterator[tuple[SlotMap, SampleBatch]]:
    """Cut a batch so that each piece's ids fit the slots; each with its map, and remapped, in order."""
    slots = SlotMap(batch.schema, table)
    if slots.fits(batch):
        slots.admit(batch)
        yield slots, slots.remap(batch)
        return
    middle = len(batch) // 2
    for part in (slice(None, middle), slice(middle, None)):
        yield from in_pieces(batch.take(part), table)
