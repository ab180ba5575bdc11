"""Small Keras models around one layer or a chain of them: over numbers, a sequence, a pair, an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

STEPS, ROWS = 6, 20  # of a sequence; of its table
UNROLLED = 3  # steps of a sequence whose layer becomes a graph of its own for each

Tensor = Any
Chain = Callable[[Tensor], Tensor]


def over_numbers(chain: Chain) -> Callable[[], Any]:
    """A model of ``chain`` over a Dense layer on six numbers."""

    def build() -> Any:
        x = keras.Input((6,), name="x")
        hidden = chain(layers.Dense(6, name="first")(x))
        return keras.Model({"x": x}, {"logit": layers.Dense(1, name="score")(hidden)})

    return build


def over_sequence(chain: Chain, *, masked: bool = False, steps: int = STEPS) -> Callable[[], Any]:
    """A model of ``chain`` over a sequence of embeddings [n, steps, 4]; what it leaves of the axis is flattened."""

    def build() -> Any:
        ids = keras.Input((steps,), dtype="int32", name="ids")
        hidden = chain(layers.Embedding(ROWS, 4, mask_zero=masked, name="table")(ids))
        if len(hidden.shape) > 2:
            hidden = layers.Flatten()(hidden)
        return keras.Model({"ids": ids}, {"logit": layers.Dense(1, name="score")(hidden)})

    return build


def over_unrolled(chain: Chain, *, masked: bool = False) -> Callable[[], Any]:
    """The same with few steps."""
    return over_sequence(chain, masked=masked, steps=UNROLLED)


def over_pair(merge: Callable[[list[Tensor]], Tensor]) -> Callable[[], Any]:
    """A model that merges two Dense layers' outputs [n, 4]."""

    def chain(x: Tensor) -> Tensor:
        return merge([layers.Dense(4, activation="tanh", name="left")(x), layers.Dense(4, name="right")(x)])

    return over_numbers(chain)


def over_image(chain: Chain) -> Callable[[], Any]:
    """A model of ``chain`` over [n, 4, 5, 1]."""

    def build() -> Any:
        x = keras.Input((4, 5, 1), name="x")
        return keras.Model({"x": x}, {"logit": layers.Dense(1, name="score")(layers.Flatten()(chain(x)))})

    return build


def probability() -> Any:
    """A sigmoid's output in place of a logit."""
    x = keras.Input((6,), name="x")
    return keras.Sequential([x, layers.Dense(4, activation="relu"), layers.Dense(1, activation="sigmoid")])


def two_classes() -> Any:
    """A softmax of two in place of a logit."""
    x = keras.Input((6,), name="x")
    return keras.Model(x, layers.Dense(2, activation="softmax", name="score")(x))


def regularised() -> Any:
    """Penalties on weights and on what a layer gives."""
    x = keras.Input((6,), name="x")
    hidden = layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l1", name="first")(x)
    return keras.Model({"x": x}, {"logit": layers.Dense(1, name="score")(hidden)})


def nested() -> Any:
    """A tower within the model, called twice."""
    x = keras.Input((6,), name="x")
    tower = keras.Sequential([keras.Input((6,)), layers.Dense(4, activation="relu")], name="tower")
    return keras.Model({"x": x}, {"logit": layers.Dense(1, name="score")(tower(x) + tower(2.0 * x))})


def attention(layer: Any) -> Chain:
    """A layer that attends to its own input."""
    return lambda h: layer([h, h])


def self_attention(layer: Any) -> Chain:
    """The same, called with two arguments, and averaged over the steps."""
    return lambda h: layers.GlobalAveragePooling1D()(layer(h, h))


def gelu(x: Tensor) -> Tensor:
    """Gelu by the hyperbolic tangent."""
    return keras.activations.gelu(x, approximate=True)


def own_matrix(x: Tensor) -> Tensor:
    """A matrix for each sample."""
    matrix = layers.EinsumDense("nd,du->ndu", (6, 3), bias_axes="du", activation="tanh", name="matrix")(x)
    return layers.Flatten()(matrix)
