"""Wide & Deep (Cheng et al., 2016): a linear model that memorises beside a deep one that generalises."""

from __future__ import annotations

import keras

from converters.zoo.fields import field_vectors, linear_score, outputs_of
from converters.zoo.layers import inputs_of, mlp
from protocol.schema import FeatureSchema


def wide_deep(
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
    joined = keras.layers.Concatenate(name="joined")(vectors)
    deep = keras.layers.Dense(1, name="score")(mlp(joined, hidden_units, "hidden", activation))
    return keras.Model(inputs, outputs_of(schema, linear_score(schema, inputs) + deep, vectors), name="wide_deep")
