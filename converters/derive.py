"""A feature schema read off a model, for models that come without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from converters.errors import ConversionError
from converters.lowering import layers_of
from converters.tables import looked_up
from protocol.schema import Feature, FeatureKind, FeatureSchema


def schema_of(model: Any) -> FeatureSchema:
    """The model's inputs of ids, each with the table in which the model looks them up.

    Inputs that share an Embedding share a table, which is named as the first of them. Inputs of numbers have no table
    and are left out.

    Raises:
        ConversionError: If there is none, or the ids of one table are looked up in Embeddings of different sizes.
    """
    groups = _groups(model)
    inputs = {tensor.name: tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(model.inputs)}
    features = [
        _feature(name, shape, rows, min(names, key=list(inputs).index))
        for name, shape in inputs.items()
        for names, rows in groups
        if name in names
    ]
    if not features:
        raise ConversionError(f"model {model.name} looks no input up in an Embedding, so it has no table")
    return FeatureSchema(tuple(features))


def largest_table(schema: FeatureSchema) -> str:
    """The name of the table with the most rows."""
    return max(schema.tables, key=lambda table: schema.tables[table])


def _groups(model: Any) -> list[tuple[set[str], int]]:
    """Inputs that share a table, and its rows."""
    groups: list[tuple[set[str], int]] = []
    for names, rows in _lookups(model):
        shared = [group for group in groups if group[0] & names]
        for group in shared:
            if group[1] != rows:
                where = ", ".join(sorted(names | group[0]))
                raise ConversionError(f"ids of {where} are looked up in tables of {group[1]} and of {rows} rows")
            groups.remove(group)
        groups.append((names.union(*(group[0] for group in shared)), rows))
    return groups


def _lookups(model: Any) -> Iterator[tuple[set[str], int]]:
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.Embedding):
            yield looked_up(layer), int(layer.input_dim)


def _feature(name: str, shape: tuple[int, ...], rows: int, table: str) -> Feature:
    if len(shape) > 1:
        raise ConversionError(f"input {name} is [n, {', '.join(map(str, shape))}]; ids must be [n] or [n, length]")
    if not shape:
        return Feature(name, FeatureKind.CATEGORICAL, 1, rows, table)
    return Feature(name, FeatureKind.SEQUENCE, shape[0], rows, table)
