"""Logistic regression: every id and every dense number has one weight."""

from __future__ import annotations

import keras

from converters.zoo.fields import as_logit, linear_score
from converters.zoo.layers import inputs_of
from protocol.schema import FeatureSchema


def lr(schema: FeatureSchema) -> keras.Model:
    """A model from a dict of the schema's features to ``logit`` [n]."""
    inputs = inputs_of(schema)
    return keras.Model(inputs, as_logit(linear_score(schema, inputs)), name="lr")
