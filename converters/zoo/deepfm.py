"""DeepFM (Guo et al., 2017): a factorisation machine and a deep network over the same embeddings."""

from __future__ import annotations

from typing import Any

import keras

from converters.zoo.fields import field_vectors, linear_score, outputs_of
from converters.zoo.layers import inputs_of, mlp
from protocol.schema import FeatureSchema

Tensor = Any


def deepfm(
    schema: FeatureSchema,
    *,
    embedding_dim: int = 9,
    hidden_units: tuple[int, ...] = (200, 80),
    activation: str = "relu",
    stddev: float = 0.05,
) -> keras.Model:
    """A model from a dict of the schema's features to ``logit`` [n], and vectors where it has a history ``liked``.

    Args:
        schema: Any features.
        embedding_dim: Columns of every table; as all defaults here, those of MPDA (Yan et al., 2022).
        hidden_units: Of the deep part, over all features' vectors.
        activation: Of the hidden layers.
        stddev: Of the embeddings before training.
    """
    inputs = inputs_of(schema)
    vectors = field_vectors(schema, inputs, embedding_dim, stddev)
    hidden = mlp(keras.layers.Concatenate(name="joined")(vectors), hidden_units, "hidden", activation)
    deep = keras.layers.Dense(1, name="score")(hidden)
    score = linear_score(schema, inputs) + _pairs(vectors) + deep
    return keras.Model(inputs, outputs_of(schema, score, vectors), name="deepfm")


def _pairs(vectors: list[Tensor]) -> Tensor:
    """Sum of the inner products of all pairs of [n, d], as half of (square of the sum - sum of the squares); [n, 1]."""
    total = sum(vectors)
    squares = sum(vector * vector for vector in vectors)
    return 0.5 * keras.ops.sum(total * total - squares, axis=-1, keepdims=True)
