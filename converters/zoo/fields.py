"""Each feature of a schema as one vector: what LR, Wide & Deep, DeepFM and PNN start from."""

from __future__ import annotations

from typing import Any

import keras

from converters.zoo.layers import masked_mean, presence, tables_of, unit
from protocol.schema import Feature, FeatureKind, FeatureSchema

Tensor = Any

# The history that says what a user likes; a model over a schema with it says whose taste meets what.
_TASTE = "liked"


def field_vectors(
    schema: FeatureSchema, inputs: dict[str, Tensor], dim: int, stddev: float = 0.05, *, trainable: bool = True
) -> list[Tensor]:
    """One [n, dim] per feature, in the schema's order.

    An id gives its row, a set or sequence of ids the mean of theirs, dense numbers a linear projection.

    Args:
        schema: The features.
        inputs: By name.
        dim: Columns of every table; features that name a table share it.
        stddev: Of the rows before training.
        trainable: Whether they train.
    """
    tables = tables_of(schema, dim, stddev=stddev, trainable=trainable)
    return [
        _vector(feature, inputs[feature.name], tables.get(feature.table or ""), dim, f"{feature.name}_embedding")
        for feature in schema.features
    ]


def linear_score(schema: FeatureSchema, inputs: dict[str, Tensor]) -> Tensor:
    """A weight for every id of every feature and for every dense number, summed, and a bias; [n, 1].

    Features that share a table do not share weights: to be shown an item and to have liked it are two things.
    """
    parts = []
    for feature in schema.features:
        name, table = f"{feature.name}_bias", None
        if feature.kind is not FeatureKind.DENSE:
            rows = schema.tables[feature.table or ""]
            table = keras.layers.Embedding(rows, 1, embeddings_initializer="zeros", name=name)
        parts.append(_vector(feature, inputs[feature.name], table, 1, name))
    # A Dense of one unit that starts as the identity: Keras has no layer that only adds a bias.
    return keras.layers.Dense(1, kernel_initializer="ones", name="linear")(sum(parts))


def outputs_of(schema: FeatureSchema, score: Tensor, vectors: list[Tensor]) -> dict[str, Tensor]:
    """A zoo model's outputs.

    Args:
        schema: The features.
        score: [n, 1].
        vectors: [n, d] per feature, as of `field_vectors`.

    Returns:
        ``logit`` [n]; and where the schema has a history ``liked``, ``user_vector`` [n, d] (taste: the normalised mean
        of the liked items) and ``item_vector`` [n, d] (content: the normalised sum of all that is no history).
    """
    outputs = {"logit": keras.ops.reshape(score, (-1,))}
    pairs = list(zip(schema.features, vectors, strict=True))
    taste = [vector for feature, vector in pairs if feature.name == _TASTE]
    shown = [vector for feature, vector in pairs if feature.kind is not FeatureKind.SEQUENCE]
    if taste and shown:
        outputs |= {"user_vector": unit(taste[0]), "item_vector": unit(sum(shown))}
    return outputs


def _vector(feature: Feature, values: Tensor, table: keras.layers.Embedding | None, dim: int, name: str) -> Tensor:
    if table is None:
        return keras.layers.Dense(dim, use_bias=False, name=name)(values)
    if feature.kind is FeatureKind.CATEGORICAL:
        return table(values)
    return masked_mean(table(values), presence(values))
