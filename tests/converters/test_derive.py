"""Schemas read off models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
from keras import layers

from converters.derive import largest_table, schema_of
from converters.errors import ConversionError
from tests.converters.conftest import SCHEMA

Tensor = Any


def test_a_model_of_the_zoo_gives_its_schema_back(din_model: Any) -> None:
    """Names, lengths, vocabularies, and which features share a table."""
    derived = {feature.name: feature for feature in schema_of(din_model).features}
    assert derived.keys() == {feature.name for feature in SCHEMA.features}
    for feature in SCHEMA.features:
        found = derived[feature.name]
        assert (found.length, found.vocabulary) == (feature.length, feature.vocabulary)
    tables = {
        frozenset(name for name, f in derived.items() if f.table == table) for table in schema_of(din_model).tables
    }
    assert tables == {frozenset({"item", "liked", "disliked"}), frozenset({"genres"})}
    assert derived["item"].table == largest_table(schema_of(din_model))


def _lookups(*rows: int) -> Callable[[], Any]:
    """A model that looks one id up in tables of these sizes."""

    def build() -> Any:
        ids = keras.Input((), dtype="int32", name="ids")
        vectors = [layers.Embedding(count, 2)(ids) for count in rows]
        return keras.Model({"ids": ids}, layers.Dense(1)(layers.Concatenate()(vectors)))

    return build


def _grid() -> Any:
    ids = keras.Input((2, 3), dtype="int32", name="ids")
    return keras.Model({"ids": ids}, layers.Dense(1)(layers.Flatten()(layers.Embedding(9, 2)(ids))))


def _numbers() -> Any:
    x = keras.Input((2,), name="x")
    return keras.Model({"x": x}, layers.Dense(1)(x))


@pytest.mark.parametrize(
    ("build", "said"),
    [(_lookups(9, 8), "tables of 9 and of 8 rows"), (_grid, r"\[n, 2, 3\]"), (_numbers, "has no table")],
)
def test_a_model_without_such_a_schema_is_refused(build: Callable[[], Any], said: str) -> None:
    """Two sizes for the same ids, ids in a grid, no ids at all."""
    with pytest.raises(ConversionError, match=said):
        schema_of(build())
