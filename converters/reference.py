"""What TensorFlow makes of the same weights and batches: Keras' own call, TensorFlow's own gradients, by a tape.

It shares nothing with the converted graph but the update rule, so a wrong registered gradient or loss cannot hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from converters.model_call import LOGIT, Assignment, ModelCall
from converters.optimizers import Optimizer
from converters.weights import WeightSelection

Array = NDArray[Any]
Tensor = Any


class Reference:
    """Trains a model's weights in TensorFlow, leaving the model itself as it is."""

    def __init__(self, call: ModelCall, weights: WeightSelection, optimizer: Optimizer) -> None:
        self._call = call
        self._selection = weights
        self._optimizer = optimizer
        self._start = {name: np.array(v) for name, v in weights.portable.items()}
        self._values = {name: tf.Variable(value) for name, value in self._start.items()}
        self._slots = {
            name: {slot: tf.Variable(np.full_like(self._start[name], start)) for slot, start in optimizer.slots.items()}
            for name in weights.trained
        }
        self._scalars = {name: tf.Variable(np.float32(start)) for name, start in optimizer.scalars.items()}
        self._step = tf.function(self._one_step, autograph=False)

    def train(self, batch: Mapping[str, Array]) -> float:
        """One step on a batch with every input of the ``train`` signature; gives the loss before it."""
        return float(self._step({name: tf.constant(value) for name, value in batch.items()}))

    def infer(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs for a batch of features."""
        inputs = {name: tf.constant(value) for name, value in batch.items()}
        outputs = self._call(self._assignments(), inputs, training=False).outputs
        return {name: np.asarray(value) for name, value in outputs.items()}

    def weights(self) -> dict[str, Array]:
        """The weights now, as ``get_weights`` names them."""
        return {name: np.asarray(value) for name, value in self._values.items()}

    def _assignments(self) -> list[Assignment]:
        return [(variable, self._values[name]) for name, variable in self._selection.portable.items()]

    def _one_step(self, inputs: dict[str, Tensor]) -> Tensor:
        watch = list(self._selection.state.values())
        with tf.GradientTape() as tape:
            result = self._call(self._assignments(), inputs, training=True, watch=watch)
            loss = _mean_loss(result.outputs[LOGIT], inputs["label"], inputs["weight"])
            scaled = loss * self._optimizer.gradient_scale(inputs)
        trained = {name: self._values[name] for name in self._selection.trained}
        gradients = tape.gradient(scaled, trained)
        scalars = self._optimizer.advance({k: v.read_value() for k, v in self._scalars.items()}, inputs)
        for name, variable in self._scalars.items():
            variable.assign(scalars[name])
        for name, variable in trained.items():
            if gradients[name] is not None:
                self._apply(name, variable, tf.convert_to_tensor(gradients[name]), scalars, inputs)
        for name, value in zip(self._selection.state, result.updates, strict=True):
            self._values[name].assign(value)
        return loss

    def _apply(
        self, name: str, variable: Any, gradient: Tensor, scalars: dict[str, Tensor], inputs: dict[str, Tensor]
    ) -> None:
        weight = variable.read_value()
        slots = {slot: v.read_value() for slot, v in self._slots[name].items()}
        stepped, slots = self._optimizer.update(weight, gradient, slots, scalars, inputs)
        pull = inputs["learning_rate"] * inputs["proximal"] * (weight - self._start[name])
        variable.assign(stepped - pull)
        for slot, value in slots.items():
            self._slots[name][slot].assign(value)


def _mean_loss(logit: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    each = tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logit)
    return tf.math.divide_no_nan(tf.reduce_sum(weight * each), tf.reduce_sum(weight))
