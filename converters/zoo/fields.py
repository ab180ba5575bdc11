"""Each feature of a schema as one vector: what LR, Wide & Deep, DeepFM and PNN start from."""

from __future__ import annotations

from typing import Any

import keras

from converters.zoo.layers import masked_mean, presence, tables_of
from protocol.schema import FeatureKind, FeatureSchema

Tensor = Any


def field_vectors(
    schema: FeatureSchema, inputs: dict[str, Tensor], dim: int, suffix: str = "embedding"
) -> list[Tensor]:
    """One [n, dim] per feature, in the schema's order.

    An id gives its row, a set or sequence of ids the mean of theirs, dense numbers a linear projection.
    """
    tables = tables_of(schema, dim, suffix)
    vectors = []
    for feature in schema.features:
        values = inputs[feature.name]
        if feature.kind is FeatureKind.DENSE:
            vectors.append(keras.layers.Dense(dim, use_bias=False, name=f"{feature.name}_{suffix}")(values))
        elif feature.kind is FeatureKind.CATEGORICAL:
            vectors.append(tables[feature.table or ""](values))
        else:
            vectors.append(masked_mean(tables[feature.table or ""](values), presence(values)))
    return vectors


def linear_score(schema: FeatureSchema, inputs: dict[str, Tensor]) -> Tensor:
    """A weight for every id and every dense number, summed, and a bias; [n, 1]."""
    total = sum(field_vectors(schema, inputs, 1, "linear"))
    # A Dense of one unit that starts as the identity: Keras has no layer that only adds a bias.
    return keras.layers.Dense(1, kernel_initializer="ones", name="linear")(total)


def as_logit(score: Tensor) -> dict[str, Tensor]:
    """A zoo model's outputs from a score [n, 1]."""
    return {"logit": keras.ops.reshape(score, (-1,))}
