"""Deep Interest Network (Zhou et al., 2018): the history is weighed by what each item in it says about the target.

Over the features ``item``, ``genres``, ``liked`` and ``disliked``; id 0 is padding. Beside the paper's network the
logit has an item bias and a dot product of item and history, so that a scorer by popularity and a factorisation are
within reach of a few gradient steps on a device.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras

from converters.zoo.layers import inputs_of, masked_mean, mlp, presence, tables_of, unit
from protocol.schema import FeatureSchema

Tensor = Any


def din(
    schema: FeatureSchema,
    *,
    embedding_dim: int = 16,
    attention_units: tuple[int, ...] = (32,),
    hidden_units: tuple[int, ...] = (64, 32),
    activation: str = "relu",
    recency: float = 1.0,
) -> keras.Model:
    """The recommender of a round.

    Args:
        schema: With ``item`` (categorical), ``genres`` (multi-valued), ``liked`` and ``disliked`` (sequences of items).
        embedding_dim: Columns of every table.
        attention_units: Hidden layers that score a history item against the target.
        hidden_units: Hidden layers over target and histories.
        activation: Of all hidden layers.
        recency: Factor by which a liked item's share of ``user_vector`` falls with every newer one; 1 is a plain mean.

    Returns:
        A model from a dict of features to ``logit`` [n], ``user_vector`` [n, d] (taste: the normalised mean of the
        liked items) and ``item_vector`` [n, 2 d] (content: item and genres, normalised).
    """
    inputs = inputs_of(schema)
    items = tables_of(schema, embedding_dim)[schema["item"].table or ""]
    genres = tables_of(schema, embedding_dim)[schema["genres"].table or ""]
    item = items(inputs["item"])
    genre = masked_mean(genres(inputs["genres"]), presence(inputs["genres"]))
    liked, disliked = items(inputs["liked"]), items(inputs["disliked"])
    is_liked, is_disliked = presence(inputs["liked"]), presence(inputs["disliked"])
    attend = partial(_attend, units=attention_units, activation=activation)
    interest = attend(item, liked, is_liked, name="liked_attention")
    aversion = attend(item, disliked, is_disliked, name="disliked_attention")
    taste = masked_mean(liked, is_liked * _recency_weights(schema["liked"].length, recency))

    hidden = keras.layers.Concatenate(name="joined")([item, genre, interest, aversion, item * interest, item * taste])
    hidden = mlp(hidden, hidden_units, "hidden", activation)
    score = keras.layers.Dense(1, name="score")(hidden)
    bias = keras.layers.Embedding(items.input_dim, 1, embeddings_initializer="zeros", name="item_bias")(inputs["item"])
    match = keras.ops.sum(item * taste, axis=-1, keepdims=True)
    logit = keras.ops.reshape(score + bias + match, (-1,))
    content = keras.layers.Concatenate(name="content")([item, genre])
    return keras.Model(inputs, {"logit": logit, "user_vector": unit(taste), "item_vector": unit(content)}, name="din")


def _attend(query: Tensor, keys: Tensor, mask: Tensor, *, units: tuple[int, ...], activation: str, name: str) -> Tensor:
    """Sum of ``keys`` [n, t, d] weighed by an MLP on query, key, their difference and product; [n, d].

    The first layer is linear in [q, k, q - k, q * k], and q - k is linear in q and k: one projection each of q, k and
    q * k says the same, and projects the query once instead of t times. Weights are not normalised, as in the paper.
    """
    first, *rest = units
    expanded = keras.ops.expand_dims(query, 1)
    on_query = keras.layers.Dense(first, name=f"{name}_query")(expanded)
    on_key = keras.layers.Dense(first, use_bias=False, name=f"{name}_key")(keys)
    on_product = keras.layers.Dense(first, use_bias=False, name=f"{name}_product")(keys * expanded)
    hidden = keras.layers.Activation(activation, name=f"{name}_1")(on_query + on_key + on_product)
    hidden = mlp(hidden, tuple(rest), f"{name}_hidden", activation)
    score = keras.ops.squeeze(keras.layers.Dense(1, name=f"{name}_score")(hidden), -1) * mask
    return keras.ops.sum(keys * keras.ops.expand_dims(score, -1), axis=1)


def _recency_weights(length: int, factor: float) -> Tensor:
    """[length], 1 for the newest (last) entry."""
    return keras.ops.convert_to_tensor([[factor ** (length - 1 - i) for i in range(length)]], "float32")
