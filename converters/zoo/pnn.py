"""Product-based network, inner products (Qu et al., 2016): a deep network that is shown how features go together."""

from __future__ import annotations

from itertools import combinations

import keras

from converters.zoo.fields import field_vectors, linear_score, outputs_of
from converters.zoo.layers import dot, inputs_of, mlp
from protocol.schema import FeatureSchema


def pnn(
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
        hidden_units: Over all features' vectors and the inner products of all their pairs.
        activation: Of the hidden layers.
        stddev: Of the embeddings before training.
    """
    inputs = inputs_of(schema)
    vectors = field_vectors(schema, inputs, embedding_dim, stddev)
    products = [dot(left, right) for left, right in combinations(vectors, 2)]
    joined = keras.layers.Concatenate(name="joined")([*vectors, *products])
    score = keras.layers.Dense(1, name="score")(mlp(joined, hidden_units, "hidden", activation))
    return keras.Model(inputs, outputs_of(schema, linear_score(schema, inputs) + score, vectors), name="pnn")
