"""Pieces that the zoo's models share, over a `FeatureSchema`."""

from __future__ import annotations

from typing import Any

import keras

from protocol.schema import FeatureKind, FeatureSchema

Tensor = Any


def inputs_of(schema: FeatureSchema) -> dict[str, Tensor]:
    """One Keras input per feature, by name: [n] for a categorical feature, else [n, length]."""
    return {
        feature.name: keras.Input(
            () if feature.kind is FeatureKind.CATEGORICAL else (feature.length,), dtype=feature.dtype, name=feature.name
        )
        for feature in schema.features
    }


def tables_of(
    schema: FeatureSchema, dim: int, *, stddev: float = 0.05, trainable: bool = True
) -> dict[str, keras.layers.Embedding]:
    """One embedding layer per table of the schema, rows x dim; features that name a table share its layer."""

    def table_of(name: str, rows: int) -> keras.layers.Embedding:
        start = keras.initializers.RandomNormal(stddev=stddev)  # one each: it gives everyone the same numbers
        return keras.layers.Embedding(
            rows, dim, embeddings_initializer=start, trainable=trainable, name=f"{name}_embedding"
        )

    return {name: table_of(name, rows) for name, rows in schema.tables.items()}


def presence(ids: Tensor) -> Tensor:
    """1.0 where an id is not the padding 0; [n, length]."""
    return keras.ops.cast(keras.ops.not_equal(ids, 0), "float32")


def masked_mean(vectors: Tensor, weight: Tensor) -> Tensor:
    """Mean over the second axis of [n, length, d], weighted by [n, length]; zeros where all weights are zero."""
    total = keras.ops.sum(vectors * keras.ops.expand_dims(weight, -1), axis=1)
    return total / keras.ops.maximum(keras.ops.sum(weight, axis=1, keepdims=True), 1e-6)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax of [n, length] over the places whose mask is 1; zeros where none is."""
    return keras.ops.softmax(scores + (mask - 1.0) * 1e9, axis=-1) * mask


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner product along the last axis, kept as an axis of one; [n, 1]."""
    return keras.ops.sum(left * right, axis=-1, keepdims=True)


def unit(vectors: Tensor) -> Tensor:
    """L2-normalised along the last axis; a zero vector stays zero."""
    squares = keras.ops.sum(vectors * vectors, axis=-1, keepdims=True)
    return vectors * keras.ops.rsqrt(keras.ops.maximum(squares, 1e-12))


def mlp(x: Tensor, units: tuple[int, ...], name: str, activation: str = "relu") -> Tensor:
    """Hidden layers ``{name}_1``, ``{name}_2``, ... over [..., d]."""
    for depth, width in enumerate(units, start=1):
        x = keras.layers.Dense(width, activation=activation, name=f"{name}_{depth}")(x)
    return x
