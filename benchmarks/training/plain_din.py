"""A plainer relative of the zoo's DIN: one history, attention by dot product, one hidden layer.

Smaller than anything one would ship, so that what a runtime costs by itself shows most.
"""

from __future__ import annotations

from typing import Any

import keras

from converters.zoo.layers import inputs_of, masked_softmax, mlp, presence, tables_of
from protocol.schema import FeatureSchema


def plain_din(schema: FeatureSchema, *, embedding_dim: int = 16, hidden_units: tuple[int, ...] = (32,)) -> Any:
    """A Keras model from ``item`` and ``liked`` of the schema to ``logit`` [n]."""
    inputs = {name: tensor for name, tensor in inputs_of(schema).items() if name in ("item", "liked")}
    items = tables_of(schema, embedding_dim)[schema["item"].table or ""]
    target, liked = items(inputs["item"]), items(inputs["liked"])
    scores = keras.ops.sum(liked * keras.ops.expand_dims(target, 1), axis=-1)
    weight = masked_softmax(scores, presence(inputs["liked"]))
    interest = keras.ops.sum(liked * keras.ops.expand_dims(weight, -1), axis=1)
    joined = keras.layers.Concatenate(name="joined")([target, interest, target * interest])
    score = keras.layers.Dense(1, name="score")(mlp(joined, hidden_units, "hidden"))
    return keras.Model(inputs, {"logit": keras.ops.reshape(score, (-1,))}, name="plain_din")
