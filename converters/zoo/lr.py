"""Logistic regression: every id and every dense number has one weight."""

from __future__ import annotations

import keras

from converters.zoo.fields import field_vectors, linear_score, outputs_of
from converters.zoo.layers import inputs_of
from protocol.schema import FeatureSchema


def lr(schema: FeatureSchema, *, embedding_dim: int = 16) -> keras.Model:
    """A model from a dict of the schema's features to ``logit`` [n], and vectors where it has a history ``liked``.

    The model itself embeds nothing. Its vectors are of random rows that do not train: users who like the same items,
    and only they, then have alike vectors (random indexing, Kanerva et al., 2000).

    Args:
        schema: Any features.
        embedding_dim: Columns of the vectors.
    """
    inputs = inputs_of(schema)
    vectors = field_vectors(schema, inputs, embedding_dim, trainable=False)
    return keras.Model(inputs, outputs_of(schema, linear_score(schema, inputs), vectors), name="lr")
