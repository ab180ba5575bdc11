"""h0 and its rows: the one way in which a round, serving and an evaluation put samples before it.

A recommender's file may hold no rows of its largest table but slots for some. Samples are then rewritten from ids to
slots, and the slots filled with the rows of the items that the samples have. What sees only the rewritten samples and
a `Trainer`, as classifying, tuning and gating do, need not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelFileError
from edge.learning.model import Model, Weights
from edge.learning.trainer import Trainer
from protocol.rows import RowBlock, TableRows
from protocol.samples import SampleBatch
from protocol.slots import SlotMap, in_pieces

Ids = NDArray[np.int32]


class RowSource(Protocol):
    """Where rows come from."""

    def rows(self, version: str, ids: Ids) -> NDArray[np.float32]:
        """Rows of that version, float32 [n, width], in the order of ``ids``."""
        ...


@dataclass(frozen=True)
class Personal:
    """A personal model, no larger than what tuning touched.

    Attributes:
        weights: Whole tensors.
        rows: The rows that tuning changed; None where the model's file holds all of its rows.
    """

    weights: Weights = field(repr=False)
    rows: RowBlock | None = None


@dataclass(frozen=True)
class _Loaded:
    """What lies in a model's slots.

    Attributes:
        slots: Which id in which slot.
        values: h0's rows of them, float32 [used, width].
    """

    slots: SlotMap
    values: NDArray[np.float32] = field(repr=False)

    def arrays(self, personal: Personal | None = None) -> dict[str, NDArray[np.float32]]:
        """As ``set_rows`` takes them; with the personal rows in place of h0's, where they are of these ids."""
        values = self.values
        if personal is not None and personal.rows is not None:
            _, at, place = np.intersect1d(self.slots.ids, personal.rows.ids, assume_unique=True, return_indices=True)
            values = values.copy()
            values[at] = personal.rows.values[place]
        return self.slots.arrays(values)


@dataclass(frozen=True)
class Prepared:
    """Samples as the model sees them, and the model with the rows of their items.

    Attributes:
        trainer: h0.
        local: The local samples.
        matched: The matched samples that fit.
        dropped: Matched samples that did not fit.
    """

    trainer: Trainer
    local: SampleBatch
    matched: SampleBatch
    dropped: int = 0
    loaded: _Loaded | None = None

    def personal(self, weights: Weights) -> Personal:
        """What is to be kept of tuned weights."""
        if self.loaded is None:
            return Personal(weights)
        slots, before = self.loaded.slots, self.loaded.arrays()
        rows = {name: weights.get(name, value) for name, value in before.items()}
        after = slots.values(rows)
        touched = np.flatnonzero((self.loaded.values != after).any(axis=1))
        touched = touched[np.argsort(slots.ids[touched])]
        block = RowBlock(slots.table.version, slots.ids[touched], after[touched])
        return Personal({name: value for name, value in weights.items() if name not in rows}, block)

    def weights(self, personal: Personal) -> Weights:
        """Inverse of `personal`, but for rows of items that these samples do not have.

        Raises:
            ModelFileError: If they are another model's.
        """
        _check_version(personal, None if self.loaded is None else self.loaded.slots.table)
        rows = {} if self.loaded is None else self.loaded.arrays(personal)
        return {
            n: rows[n] if n in rows else personal.weights.get(n, value) for n, value in self.trainer.initial.items()
        }


class Recommender:
    """A recommender's file, and where its rows come from.

    Args:
        model: The file, opened.
        table: The table of which it holds no rows; None where it holds everything.
        source: Gives these rows.

    Raises:
        ModelFileError: If the file wants other rows.
    """

    def __init__(self, model: Model, table: TableRows | None = None, source: RowSource | None = None) -> None:
        model.check_rows(table)
        if table is not None and source is None:
            raise ModelFileError(f"the model holds no rows of {table.table}, and there is nowhere to get them from")
        self.model = model
        self.table = table
        self._source = source
        self._initial = model.get_weights()

    def prepare(self, local: SampleBatch, matched: SampleBatch) -> Prepared:
        """Load the rows that samples need. Local ones have to fit; of the matched, in their order, those that do.

        Raises:
            ValueError: If local samples have more items than there are slots.
        """
        self.model.set_weights(self._initial)
        if self.table is None:
            return Prepared(Trainer(self.model), local, matched)
        slots = SlotMap(local.schema, self.table)
        slots.admit(local)
        fits = slots.admit(matched)
        loaded = self._load(slots)
        self.model.set_rows(loaded.arrays())
        kept = slots.remap(matched.take(fits))
        return Prepared(Trainer(self.model), slots.remap(local), kept, int((~fits).sum()), loaded)

    def logits(self, samples: SampleBatch, personal: Personal | None = None) -> NDArray[np.float32]:
        """Logits, float32 [n], of h0 or of a personal model over it, whatever number of items the samples have.

        Raises:
            ModelFileError: If the personal model's rows are another model's.
        """
        self.put(personal)
        if self.table is None:
            return self.model.infer(samples.features)
        parts = []
        for slots, piece in in_pieces(samples, self.table):
            self.fill(slots, personal)
            parts.append(self.model.infer(piece.features))
        return np.concatenate(parts)

    def put(self, personal: Personal | None) -> None:
        """Put the weights of h0, or of a personal model over it, in place; rows are put by `fill`.

        Raises:
            ModelFileError: If the personal model's rows are another model's.
        """
        if personal is not None:
            _check_version(personal, self.table)
        self.model.set_weights({**self._initial, **(personal.weights if personal is not None else {})})

    def fill(self, slots: SlotMap, personal: Personal | None) -> None:
        """Put the rows of the slots' ids in place, the personal model's over h0's.

        Raises:
            RoundError: If a row is not here.
        """
        self.model.set_rows(self._load(slots).arrays(personal))

    def _load(self, slots: SlotMap) -> _Loaded:
        assert self._source is not None
        return _Loaded(slots, self._source.rows(slots.table.version, slots.ids))


def latest_that_fit(local: SampleBatch, table: TableRows | None) -> SampleBatch:
    """The local samples that a model with slots for some rows has room for, the latest first to be kept; in order."""
    if table is None:
        return local
    order = np.argsort(-local.time_s, kind="stable")
    fits = SlotMap(local.schema, table).admit(local.take(order))
    return local.take(np.sort(order[fits]))


def _check_version(personal: Personal, table: TableRows | None) -> None:
    theirs = None if personal.rows is None else personal.rows.version
    ours = None if table is None else table.version
    if theirs != ours:
        raise ModelFileError(
            f"a personal model with rows of version {str(theirs)[:12]} over a model of version {str(ours)[:12]}: "
            "they do not belong together; serve h0 until the next round"
        )
