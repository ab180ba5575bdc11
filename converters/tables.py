"""Tables too large for a file: which weights hold their rows, and the rows themselves, which leave the file.

A table of the schema, such as ``item``, has one row an id. The weights that are looked up by its ids (DIN: the item
embedding and the item bias) get ``slots`` rows in the file, of zeros, and the rows of the whole catalogue come out of
the conversion as one array. Whoever runs the file maps ids to slots and sets the rows that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from converters.errors import ConversionError
from converters.lowering import layers_of
from protocol.rows import MAX_SLOTS, RowColumn, RowTable, TableRows, rows_version
from protocol.schema import FeatureSchema


@dataclass(frozen=True)
class SlottedWeight:
    """A weight of which the file holds some rows only.

    Attributes:
        variable: Keras' variable, [vocabulary, width].
        table: The table of the schema whose ids look rows up in it.
        slots: Rows in the file.
    """

    variable: Any
    table: str
    slots: int

    @property
    def shape(self) -> tuple[int, int]:
        """In the file."""
        return self.slots, int(self.variable.shape[1])


def slotted_weights(model: Any, slots: Mapping[str, int], schema: FeatureSchema | None) -> Iterator[SlottedWeight]:
    """The weights of the Embedding layers that belong to a table of ``slots``.

    Raises:
        ConversionError: If there is no schema, a table is not of it, no Embedding or one of another size looks its ids
            up, one looks up the ids of several tables, or a sample may have more ids than there are slots.
    """
    if not slots:
        return
    if schema is None:
        raise ConversionError("slots name tables of a schema: give the schema too")
    _check_slots(slots, schema)
    found = set()
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.Embedding) and (table := _table_of(layer, schema)) in slots:
            _check_layer(layer, table, schema)
            found.add(table)
            yield SlottedWeight(layer.embeddings, table, slots[table])
    if missing := set(slots) - found:
        raise ConversionError(f"model {model.name} has no Embedding for ids of {', '.join(sorted(missing))}")


def row_tables(weights: Mapping[str, SlottedWeight], file_sha256: str) -> dict[str, RowTable]:
    """The catalogue's rows by table, bound to the file of that digest."""
    tables: dict[str, dict[str, SlottedWeight]] = {}
    for name, weight in weights.items():
        tables.setdefault(weight.table, {})[name] = weight
    return {table: _row_table(table, parts, file_sha256) for table, parts in tables.items()}


def _row_table(table: str, parts: Mapping[str, SlottedWeight], file_sha256: str) -> RowTable:
    values = np.concatenate([np.asarray(weight.variable, np.float32) for weight in parts.values()], axis=1)
    columns = tuple(RowColumn(name, weight.shape[1]) for name, weight in parts.items())
    slots = next(iter(parts.values())).slots
    return RowTable(TableRows(rows_version(values, file_sha256), table, len(values), slots, columns), values)


def _check_slots(slots: Mapping[str, int], schema: FeatureSchema) -> None:
    for table, count in slots.items():
        if table not in schema.tables:
            raise ConversionError(f"slots for table {table!r}, which the schema lacks: it has {sorted(schema.tables)}")
        ids = sum(feature.length for feature in schema.features if feature.table == table)
        if not ids < count <= MAX_SLOTS:
            raise ConversionError(
                f"{count} slots for table {table}: a sample has up to {ids} ids, so between {ids + 1} and {MAX_SLOTS} "
                "are possible"
            )


def _table_of(layer: Any, schema: FeatureSchema) -> str:
    """The table whose ids a layer looks up; with ``+`` between their names where they are several."""
    inputs = looked_up(layer)
    return "+".join(sorted({feature.table or "" for feature in schema.features if feature.name in inputs}))


def _check_layer(layer: Any, table: str, schema: FeatureSchema) -> None:
    if layer.input_dim != schema.tables[table] or layer.lora_enabled:
        raise ConversionError(
            f"layer {layer.name} has {layer.input_dim} rows for the {schema.tables[table]} ids of {table}; a table can "
            "have slots where every layer that looks it up has one plain row an id"
        )


def looked_up(layer: Any) -> set[str]:
    """Names of the model's inputs from which the layer's ids come."""
    return {name for node in layer._inbound_nodes for tensor in node.input_tensors for name in _origins(tensor)}


def _origins(tensor: Any) -> Iterator[str]:
    history = tensor._keras_history
    if isinstance(history.operation, keras.layers.InputLayer):
        yield history.operation.name
        return
    for parent in history.operation._inbound_nodes[history.node_index].input_tensors:
        yield from _origins(parent)
