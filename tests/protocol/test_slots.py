"""Samples rewritten from ids to slots."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedMessageError
from protocol.rows import RowColumn, TableRows
from protocol.samples import SampleBatch, concatenate
from protocol.schema import Feature, FeatureKind, FeatureSchema
from protocol.slots import SlotMap, in_pieces
from tests.protocol.strategies import PROPERTY

SCHEMA = FeatureSchema(
    (
        Feature("item", FeatureKind.CATEGORICAL, vocabulary=500, table="item"),
        Feature("genre", FeatureKind.CATEGORICAL, vocabulary=9, table="genre"),
        Feature("liked", FeatureKind.SEQUENCE, 3, 500, "item"),
    )
)


def table(slots: int) -> TableRows:
    """A table of 500 items."""
    return TableRows("a" * 64, "item", 500, slots, (RowColumn("embedding", 2), RowColumn("bias", 1)))


def samples(seed: int, count: int, items: int = 500) -> SampleBatch:
    """Random samples of items below ``items``."""
    rng = np.random.default_rng(seed)
    features = {
        "item": rng.integers(0, items, count, np.int32),
        "genre": rng.integers(0, 9, count, np.int32),
        "liked": rng.integers(0, items, (count, 3), np.int32),
    }
    return SampleBatch(SCHEMA, features, np.ones(count, np.float32), np.arange(count, dtype=np.int64))


@PROPERTY
@given(st.integers(0, 99), st.integers(5, 60), st.lists(st.integers(0, 20), min_size=1, max_size=3))
def test_slots_lead_back_to_the_ids(seed: int, slots: int, counts: list[int]) -> None:
    """Whatever was admitted: its slots are in bounds, hold its ids, and 0 stays 0; other features are as they were."""
    slot_map = SlotMap(SCHEMA, table(slots))
    kept = []
    for number, count in enumerate(counts):
        batch = samples(seed + number, count)
        kept.append(batch.take(slot_map.admit(batch)))
    together = concatenate(kept)
    seen = slot_map.remap(together)
    assert len(slot_map.ids) <= slots
    assert len(np.unique(slot_map.ids)) == len(slot_map.ids)
    assert slot_map.ids[0] == 0
    for name in ("item", "liked"):
        assert (slot_map.ids[seen.features[name]] == together.features[name]).all()
        assert ((seen.features[name] == 0) == (together.features[name] == 0)).all()
        assert seen.features[name].dtype == np.int32
    assert (seen.features["genre"] == together.features["genre"]).all()


def test_where_slots_run_out_the_first_samples_have_them() -> None:
    """A sample that does not fit takes no slot, and a later one with known items still fits."""
    slot_map = SlotMap(SCHEMA, table(6))
    item = np.array([1, 2, 9, 2], np.int32)
    liked = np.array([[3, 4, 0], [3, 1, 5], [1, 2, 3], [1, 1, 1]], np.int32)
    features = {"item": item, "genre": np.zeros(4, np.int32), "liked": liked}
    batch = SampleBatch(SCHEMA, features, np.ones(4, np.float32), np.arange(4, dtype=np.int64))
    assert slot_map.admit(batch).tolist() == [True, True, False, True]
    assert sorted(slot_map.ids) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="feature item has an id without a slot"):
        slot_map.remap(batch)


@PROPERTY
@given(st.integers(0, 99), st.integers(0, 200), st.integers(5, 60))
def test_pieces_hold_every_sample_once_and_in_order(seed: int, count: int, slots: int) -> None:
    """However few the slots, all samples come, each with a map that leads back."""
    batch = samples(seed, count)
    items = []
    for slot_map, piece in in_pieces(batch, table(slots)):
        assert len(slot_map.ids) <= slots
        items.append(slot_map.ids[piece.features["item"]])
    assert np.concatenate(items).tolist() == batch.features["item"].tolist()


def test_rows_become_arrays_and_return() -> None:
    """Columns go to their weights, slots beyond those in use are zero."""
    slot_map = SlotMap(SCHEMA, table(20))
    slot_map.admit(samples(1, 3))
    values = np.random.default_rng(1).random((len(slot_map.ids), 3), np.float32)
    arrays = slot_map.arrays(values)
    assert {name: array.shape for name, array in arrays.items()} == {"embedding": (20, 2), "bias": (20, 1)}
    assert (arrays["bias"][: len(values), 0] == values[:, 2]).all()
    assert not arrays["bias"][len(values) :].any()
    assert (slot_map.values(arrays) == values).all()


def test_too_few_slots_for_one_sample_are_refused() -> None:
    """A sample has up to four ids here, and padding needs a slot too."""
    with pytest.raises(MalformedMessageError, match="4 slots do not hold"):
        SlotMap(SCHEMA, table(4))
