"""What TensorFlow makes of the same weights and batches: Keras' own layers, TensorFlow's own gradients, by a tape.

It shares nothing with the converted graph but the optimiser's rule and dropout's masks, so a wrong registered gradient,
layer or loss cannot hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from converters.model_call import LOGIT, Assignment, CallResult, ModelCall
from converters.noise import START, Noise
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
        self._start = {name: np.asarray(v) for name, v in weights.portable.items()}
        self._values = {name: tf.Variable(value) for name, value in self._start.items()}
        self._slots = {
            name: {slot: tf.Variable(np.full_like(self._start[name], start)) for slot, start in optimizer.slots.items()}
            for name in weights.trained
        }
        self._scalars = {name: tf.Variable(np.float32(start)) for name, start in optimizer.scalars.items()}
        self._dropout_state = tf.Variable(START)
        self._train_graph: Any = None
        self._infer_graph: Any = None

    def train(self, batch: Mapping[str, Array]) -> float:
        """One step on a batch with every input of the ``train`` signature; gives the loss before it."""
        inputs = _tensors(batch)
        if self._train_graph is None:
            self._train_graph = tf.function(self._one_step, autograph=False).get_concrete_function(inputs)
        return float(self._train_graph(inputs))

    def infer(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs for a batch of features, of the same size at each call."""
        inputs = _tensors(batch)
        if self._infer_graph is None:
            outputs = tf.function(lambda features: self._forward(features).outputs, autograph=False)
            self._infer_graph = outputs.get_concrete_function(inputs)
        return {name: np.asarray(value) for name, value in self._infer_graph(inputs).items()}

    def weights(self) -> dict[str, Array]:
        """The weights now, as ``get_weights`` names them."""
        return {name: np.asarray(value) for name, value in self._values.items()}

    def _forward(self, inputs: dict[str, Tensor], noise: Noise | None = None) -> CallResult:
        assignments: list[Assignment] = [(v, self._values[name]) for name, v in self._selection.portable.items()]
        watch = list(self._selection.state.values()) if noise is not None else []
        return self._call(assignments, inputs, noise=noise, watch=watch, builtin=False)

    def _one_step(self, inputs: dict[str, Tensor]) -> Tensor:
        noise = Noise(self._dropout_state.read_value())
        with tf.GradientTape() as tape:
            result = self._forward(inputs, noise)
            loss = _mean_loss(result.outputs[LOGIT], inputs["label"], inputs["weight"])
            if result.penalty is not None:
                loss += result.penalty
            scaled = loss * self._optimizer.gradient_scale(inputs)
        trained = {name: self._values[name] for name in self._selection.trained}
        gradients = tape.gradient(scaled, trained)
        self._update({name: g for name, g in gradients.items() if g is not None}, inputs)
        self._dropout_state.assign(noise.next_state())
        for name, value in zip(self._selection.state, result.updates, strict=True):
            self._values[name].assign(value)
        return loss

    def _update(self, gradients: dict[str, Tensor], inputs: dict[str, Tensor]) -> None:
        scalars = self._optimizer.advance({k: v.read_value() for k, v in self._scalars.items()}, inputs)
        for name, variable in self._scalars.items():
            variable.assign(scalars[name])
        for name, gradient in gradients.items():
            weight = self._values[name].read_value()
            slots = {slot: v.read_value() for slot, v in self._slots[name].items()}
            stepped, slots = self._optimizer.update(weight, tf.convert_to_tensor(gradient), slots, scalars, inputs)
            pull = inputs["learning_rate"] * inputs["proximal"] * (weight - self._start[name])
            self._values[name].assign(stepped - pull)
            for slot, value in slots.items():
                self._slots[name][slot].assign(value)


def _tensors(batch: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: tf.constant(value) for name, value in batch.items()}


def _mean_loss(logit: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    each = tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logit)
    return tf.math.divide_no_nan(tf.reduce_sum(weight * each), tf.reduce_sum(weight))
