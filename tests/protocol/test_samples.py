from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from protocol.errors import SchemaMismatchError
from protocol.samples import SampleBatch, concatenate, empty_batch
from protocol.schema import Feature, FeatureKind, FeatureSchema
from tests.protocol.strategies import PROPERTY, batches

SCHEMA = FeatureSchema(
    (
        Feature("item", FeatureKind.CATEGORICAL, vocabulary=100, table="item"),
        Feature("liked", FeatureKind.SEQUENCE, 2, 100, "item"),
    )
)


def _batch(n: int) -> SampleBatch:
    items = np.arange(n, dtype=np.int32)
    return SampleBatch(
        SCHEMA,
        {"item": items, "liked": np.stack([items, items], axis=1)},
        (items % 2).astype(np.float32),
        items.astype(np.int64) * 10,
    )


def test_take_by_index_mask_and_slice() -> None:
    """Every column follows the rows asked for, in their order."""
    batch = _batch(5)
    by_index = batch.take(np.array([4, 0]))
    assert by_index.features["item"].tolist() == [4, 0]
    assert by_index.features["liked"].tolist() == [[4, 4], [0, 0]]
    assert by_index.time_s.tolist() == [40, 0]
    assert batch.take(batch.label > 0).features["item"].tolist() == [1, 3]
    assert len(batch.take(slice(1, 4))) == 3


@PROPERTY
@given(batches())
def test_concatenating_the_parts_gives_the_whole(batch: SampleBatch) -> None:
    """Cutting a batch in two and joining it again changes nothing."""
    cut = len(batch) // 2
    joined = concatenate([batch.take(slice(0, cut)), batch.take(slice(cut, None))])
    for (name, got), (wanted_name, wanted) in zip(joined.columns(), batch.columns(), strict=True):
        assert name == wanted_name
        np.testing.assert_array_equal(got, wanted)


def test_concatenate_refuses_nothing_and_mixtures() -> None:
    """Without a batch there is no schema, and samples of other features do not mix."""
    with pytest.raises(ValueError, match="empty_batch"):
        concatenate([])
    with pytest.raises(SchemaMismatchError, match=SCHEMA.digest):
        concatenate([_batch(1), empty_batch(FeatureSchema(SCHEMA.features[:1]))])


def test_empty_batch_fits_its_schema() -> None:
    """It has every column, of the right shape, and zeros in it."""
    batch = empty_batch(SCHEMA, 3)
    assert len(batch) == 3
    assert [name for name, _ in batch.columns()] == ["item", "liked", "label", "time_s"]
    assert not any(array.any() for _, array in batch.columns())


@pytest.mark.parametrize(
    ("features", "wrong"),
    [
        ({"item": np.zeros(2, np.int32)}, "liked"),
        ({"item": np.zeros(2, np.int64), "liked": np.zeros((2, 2), np.int32)}, "int64"),
        ({"item": np.zeros(3, np.int32), "liked": np.zeros((2, 2), np.int32)}, "3"),
        ({"item": np.zeros(2, np.int32), "liked": np.zeros((2, 3), np.int32)}, "3"),
        ({"item": np.zeros(2, np.int32), "liked": np.zeros((2, 2), np.int32), "extra": np.zeros(2)}, "extra"),
    ],
)
def test_features_that_do_not_fit_are_refused(features: dict[str, NDArray[Any]], wrong: str) -> None:
    """A missing, superfluous, mistyped or misshapen column never enters a batch, and the error names it."""
    with pytest.raises(SchemaMismatchError, match=wrong):
        SampleBatch(SCHEMA, features, np.zeros(2, np.float32), np.zeros(2, np.int64))


def test_the_order_of_bytes_is_no_part_of_a_type() -> None:
    """Numbers of the right type fit whichever of their bytes comes first."""
    batch = empty_batch(SCHEMA, 3)
    turned = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in batch.features.items()}
    assert len(SampleBatch(SCHEMA, turned, batch.label, batch.time_s)) == 3


def test_label_and_time_are_checked_too() -> None:
    """Labels are float32 [n], times int64 [n]."""
    features = dict(_batch(2).features)
    with pytest.raises(SchemaMismatchError, match="labels are float32"):
        SampleBatch(SCHEMA, features, np.zeros(2, np.float64), np.zeros(2, np.int64))
    with pytest.raises(SchemaMismatchError, match="times are int64"):
        SampleBatch(SCHEMA, features, np.zeros(2, np.float32), np.zeros(3, np.int64))
