"""Deep Interest Network (Zhou et al., 2018): the history is weighed by what each item in it says about the target.

Over the features ``item``, ``genres``, ``liked`` and ``disliked``; id 0 is padding. Beside the paper's network the
logit has an item bias and dot products of the target with both histories, so that a scorer by popularity and a
factorisation are within reach of a few gradient steps on a device. Attention is normalised: it ranked better for users
with short histories (docs/evaluation-notes.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from converters.zoo.fields import field_vectors
from converters.zoo.layers import dot, inputs_of, masked_mean, masked_softmax, mlp, presence, tables_of, unit
from protocol.schema import FeatureSchema

Tensor = Any

# The sizes of MPDA (Yan et al., 2022), for comparisons with the literature: din(schema, **MPDA). The defaults of `din`
# were tuned on MovieLens; those of the other models of the zoo are MPDA's already.
MPDA: Mapping[str, Any] = {"embedding_dim": 9, "attention_units": (80, 40), "hidden_units": (200, 80)}

_OWN = frozenset({"item", "genres", "liked", "disliked"})

# Embeddings start small, so their dot products start near nothing; this lets them speak from the first steps on.
_MATCH_SCALE = 4.0


def din(
    schema: FeatureSchema,
    *,
    embedding_dim: int = 24,
    attention_units: tuple[int, ...] = (32,),
    hidden_units: tuple[int, ...] = (64, 32),
    activation: str = "relu",
    recency: float = 1.0,
) -> keras.Model:
    """The recommender of a round.

    Args:
        schema: With ``item`` (categorical), ``genres`` (multi-valued), ``liked`` and ``disliked`` (sequences of items);
            what it has beside these joins the first hidden layer.
        embedding_dim: Columns of every table.
        attention_units: Hidden layers that score a history item against the target.
        hidden_units: Hidden layers over target and histories.
        activation: Of all hidden layers.
        recency: Factor by which a liked item's share of ``user_vector`` falls with every newer one; 1 is a plain mean.

    Returns:
        A model from a dict of features to ``logit`` [n], ``user_vector`` [n, d] (taste: the normalised mean of the
        liked items) and ``item_vector`` [n, d] (content: the normalised sum of item and mean genre).
    """
    inputs = inputs_of(schema)
    tables = tables_of(schema, embedding_dim)
    items, genres = tables[schema["item"].table or ""], tables[schema["genres"].table or ""]
    target = items(inputs["item"]) + masked_mean(genres(inputs["genres"]), presence(inputs["genres"]))
    histories = {name: (items(inputs[name]), presence(inputs[name])) for name in ("liked", "disliked")}
    attended = [_attend(target, *histories[name], attention_units, activation, name=name) for name in histories]
    means = [masked_mean(*histories[name]) for name in histories]

    crossed = [target * vector for vector in (*attended, *means)]
    hidden = keras.layers.Concatenate(name="joined")(
        [target, *attended, *crossed, *_further(schema, inputs, embedding_dim)]
    )
    score = keras.layers.Dense(1, name="score")(mlp(hidden, hidden_units, "hidden", activation))
    bias = keras.layers.Embedding(items.input_dim, 1, embeddings_initializer="zeros", name="item_bias")(inputs["item"])
    scale = keras.initializers.Constant(_MATCH_SCALE)
    matches = keras.layers.Concatenate(name="matches")([dot(target, mean) for mean in means])
    match = keras.layers.Dense(1, use_bias=False, kernel_initializer=scale, name="match")(matches)
    logit = keras.ops.reshape(score + bias + match, (-1,))
    taste = _taste(*histories["liked"], schema["liked"].length, recency)
    return keras.Model(inputs, {"logit": logit, "user_vector": unit(taste), "item_vector": unit(target)}, name="din")


def _further(schema: FeatureSchema, inputs: dict[str, Tensor], dim: int) -> list[Tensor]:
    """One [n, dim] for every feature that DIN has no use of its own for."""
    features = tuple(feature for feature in schema.features if feature.name not in _OWN)
    return field_vectors(FeatureSchema(features), inputs, dim) if features else []


def _attend(query: Tensor, keys: Tensor, mask: Tensor, units: tuple[int, ...], activation: str, *, name: str) -> Tensor:
    """Mean of ``keys`` [n, t, d] weighed by an MLP on query, key, their difference and product; [n, d].

    The first layer is linear in [q, k, q - k, q * k], so it is k W(q) + b(q): for each query one matrix and one vector,
    made once instead of t times. Half the work of projecting k and q * k apart.
    """
    first, *rest = units
    by_product = keras.layers.EinsumDense(
        "nd,du->ndu",
        (query.shape[-1], first),
        bias_axes="du",
        bias_initializer="glorot_uniform",
        name=f"{name}_attention_key",
    )
    on_query = keras.layers.Dense(first, name=f"{name}_attention_query")(query)
    projected = keras.ops.matmul(keys, by_product(query)) + keras.ops.expand_dims(on_query, 1)
    hidden = keras.layers.Activation(activation, name=f"{name}_attention_1")(projected)
    hidden = mlp(hidden, tuple(rest), f"{name}_attention_hidden", activation)
    # Softmax does not see a constant, so a bias would only gather rounding errors.
    score = keras.ops.squeeze(keras.layers.Dense(1, use_bias=False, name=f"{name}_attention_score")(hidden), -1)
    weight = masked_softmax(score, mask)
    return keras.ops.sum(keys * keras.ops.expand_dims(weight, -1), axis=1)


def _taste(liked: Tensor, mask: Tensor, length: int, recency: float) -> Tensor:
    """Mean of the liked items [n, t, d], older ones fading by ``recency``; [n, d]."""
    fading = [[recency ** (length - 1 - place) for place in range(length)]]
    return masked_mean(liked, mask * keras.ops.convert_to_tensor(fading, "float32"))
