"""The update rules, against Keras' own optimisers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from converters.errors import ConversionError
from converters.optimizers import OPTIMIZERS, optimizer_named

KERAS: dict[str, Any] = {
    "sgd": lambda hyper: keras.optimizers.SGD(hyper["learning_rate"]),
    "momentum": lambda hyper: keras.optimizers.SGD(hyper["learning_rate"], momentum=hyper["momentum"]),
    "adagrad": lambda hyper: keras.optimizers.Adagrad(hyper["learning_rate"], epsilon=hyper["epsilon"]),
    "adam": lambda hyper: keras.optimizers.Adam(*(hyper[k] for k in ("learning_rate", "beta_1", "beta_2", "epsilon"))),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rule_steps_as_keras_does(name: str) -> None:
    """Twenty steps over random gradients end at the same weights."""
    rule, rng = optimizer_named(name), np.random.default_rng(0)
    hyper = {key: np.float32(value) for key, value in rule.hyper.items()}
    weight = tf.constant(rng.standard_normal((3, 2)), tf.float32)
    variable, reference = keras.Variable(weight), KERAS[name]({k: float(v) for k, v in hyper.items()})
    slots = {slot: tf.fill(weight.shape, np.float32(start)) for slot, start in rule.slots.items()}
    scalars: dict[str, Any] = {key: tf.constant(start) for key, start in rule.scalars.items()}
    for _ in range(20):
        gradient = tf.constant(rng.standard_normal((3, 2)), tf.float32)
        reference.apply([gradient], [variable])
        scalars = rule.advance(scalars, hyper)
        weight, slots = rule.update(weight, gradient * rule.gradient_scale(hyper), slots, scalars, hyper)
    np.testing.assert_allclose(weight, variable, rtol=2e-5, atol=1e-6)


def test_an_unknown_rule_is_named() -> None:
    """The error lists those there are."""
    with pytest.raises(ConversionError, match=r"'lamb' is not one of adagrad, adam, momentum, sgd"):
        optimizer_named("lamb")
