"""A Keras model as a TensorFlow module whose signatures train it with builtin ops.

    train(features [B, ...], label [B], weight [B], learning_rate, proximal, ...) -> loss
    infer(features [n, ...]) -> logit [n]
    evaluate(features [n, ...], label [n], weight [n]) -> loss, logit [n]
    embed(features [n, ...]) -> user_vector [n, du], item_vector [n, di]       only where the model gives them
    get_weights() -> every weight that training changes, by name
    set_weights(those) -> done
    reset_optimizer() -> done
    set_rows(rows [S, d] of every weight with slots, by name) -> done          only where tables have slots
    get_rows() -> those

The loss is the weighted mean of binary cross-entropy, sum(weight * bce) / sum(weight), and what the model's
regularisers add; a row of weight zero counts for nothing. After the optimiser's own step each weight w is pulled toward
the value w0 that it has in the file: w -= learning_rate * proximal * (w - w0), the gradient of L2-SP (Li et al., 2018)
kept out of the optimiser. Where rows were set, w0 is those rows.

The update of a table writes all of its rows. TFLite's builtin operations read and assign a variable as a whole, none
changes a part of one in place, so a step is made cheap by giving the table no more rows than a device needs at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from converters.gradients import builtin_gradients, dense
from converters.loss import mean_loss, mean_loss_slope
from converters.model_call import LOGIT, VECTORS, Assignment, CallResult, ModelCall
from converters.noise import START, Noise
from converters.optimizers import Optimizer
from converters.weights import WeightSelection

Tensor = Any
Signature = Any


class TrainableModule(tf.Module):  # type: ignore[misc]
    """Owns plain variables with the model's weights, and the signatures over them.

    Keras' own variables must not be captured: a converted file never initialises them.
    """

    def __init__(self, call: ModelCall, weights: WeightSelection, optimizer: Optimizer, batch_size: int) -> None:
        super().__init__()
        self._call = call
        self._weights = weights
        self._optimizer = optimizer
        self._batch_size = batch_size
        self._start = weights.start()
        self._frozen = [(v, tf.constant(np.asarray(v))) for v in weights.frozen]
        self.anchors = {name: tf.Variable(self._start[name]) for name in weights.trained if name in weights.slotted}
        self.values = {name: tf.Variable(value, name=name) for name, value in self._start.items()}
        self.slots = {
            name: {slot: tf.Variable(np.full_like(self._start[name], start)) for slot, start in optimizer.slots.items()}
            for name in weights.trained
        }
        self.scalars = {name: tf.Variable(np.float32(start)) for name, start in optimizer.scalars.items()}
        self.dropout_state = tf.Variable(START)

    def signatures(self) -> dict[str, Signature]:
        """Concrete functions by signature name."""
        any_batch = [spec.tensor_spec(None) for spec in self._call.inputs]
        fixed_batch = [spec.tensor_spec(self._batch_size) for spec in self._call.inputs]
        hyper = [_floats(name, ()) for name in (*self._optimizer.hyper, "proximal")]
        weights = [self._spec(name) for name in self._weights.portable]
        signatures = {
            "train": _concrete(self._train, [*fixed_batch, *_targets(self._batch_size), *hyper]),
            "infer": _concrete(self._infer, any_batch),
            "evaluate": _concrete(self._evaluate, [*any_batch, *_targets(None)]),
            "get_weights": _concrete(self._get_weights, []),
            "set_weights": _concrete(self._set_weights, weights),
            "reset_optimizer": _concrete(self._reset_optimizer, []),
        }
        if set(VECTORS) <= set(self._call.output_names):
            signatures["embed"] = _concrete(self._embed, any_batch)
        if self._weights.slotted:
            rows = [self._spec(name) for name in self._weights.slotted]
            signatures["set_rows"] = _concrete(self._set_rows, rows)
            signatures["get_rows"] = _concrete(self._get_rows, [])
        return signatures

    def _spec(self, name: str) -> Any:
        return tf.TensorSpec(self.values[name].shape, self.values[name].dtype, name=name)

    def _read(self) -> dict[str, Tensor]:
        return {name: variable.read_value() for name, variable in self.values.items()}

    def _assignments(self, read: dict[str, Tensor]) -> list[Assignment]:
        return [*self._frozen, *((v, read[name]) for name, v in self._weights.held.items())]

    def _forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._call(self._assignments(self._read()), batch).outputs

    def _train(self, **inputs: Tensor) -> dict[str, Tensor]:
        read, noise = self._read(), Noise(self.dropout_state.read_value())
        watch = list(self._weights.state.values())
        with builtin_gradients(tf.compat.v1.get_default_graph()):
            result = self._call(self._assignments(read), inputs, noise=noise, watch=watch)
        trained = {name: read[name] for name in self._weights.trained}
        loss, gradients = self._differentiate(result, trained, inputs)
        updates = self._step(trained, gradients, inputs)
        updates += zip((self.values[name] for name in self._weights.state), result.updates, strict=True)
        if noise.used:
            updates.append((self.dropout_state, noise.next_state()))
        with tf.control_dependencies([variable.assign(value) for variable, value in updates]):
            return {"loss": tf.identity(loss)}

    def _differentiate(
        self, result: CallResult, trained: dict[str, Tensor], inputs: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor | None]]:
        """The loss, and its gradient by every weight, scaled as the optimiser wants it."""
        logit, targets = result.outputs[LOGIT], (inputs["label"], inputs["weight"])
        scale = self._optimizer.gradient_scale(inputs)
        loss, terms = mean_loss(logit, *targets), [(logit, scale * mean_loss_slope(logit, *targets))]
        if result.penalty is not None:
            loss += result.penalty
            terms.append((result.penalty, scale * tf.ones_like(result.penalty)))
        ys, slopes = zip(*terms, strict=True)
        gradients = tf.gradients(list(ys), list(trained.values()), grad_ys=list(slopes))
        return loss, dict(zip(trained, gradients, strict=True))

    def _step(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor | None], hyper: dict[str, Tensor]
    ) -> list[tuple[Any, Tensor]]:
        """New values of every variable that the optimiser changes."""
        read = {name: variable.read_value() for name, variable in self.scalars.items()}
        scalars = self._optimizer.advance(read, hyper)
        updates = [(self.scalars[name], value) for name, value in scalars.items()]
        pull = hyper["learning_rate"] * hyper["proximal"]
        for name, weight in weights.items():
            gradient = gradients[name]
            if gradient is None:  # the logit does not depend on it
                continue
            slots = {slot: variable.read_value() for slot, variable in self.slots[name].items()}
            stepped, slots = self._optimizer.update(weight, dense(gradient), slots, scalars, hyper)
            updates.append((self.values[name], stepped - pull * (weight - self._anchor(name))))
            updates += [(self.slots[name][slot], value) for slot, value in slots.items()]
        return updates

    def _anchor(self, name: str) -> Tensor:
        return self.anchors[name].read_value() if name in self.anchors else self._start[name]

    def _infer(self, **batch: Tensor) -> dict[str, Tensor]:
        return {LOGIT: self._forward(batch)[LOGIT]}

    def _embed(self, **batch: Tensor) -> dict[str, Tensor]:
        outputs = self._forward(batch)
        return {name: outputs[name] for name in VECTORS}

    def _evaluate(self, **inputs: Tensor) -> dict[str, Tensor]:
        logit = self._forward(inputs)[LOGIT]
        return {"loss": mean_loss(logit, inputs["label"], inputs["weight"]), LOGIT: logit}

    def _get_weights(self) -> dict[str, Tensor]:
        return {name: tf.identity(self.values[name].read_value()) for name in self._weights.portable}

    def _set_weights(self, **values: Tensor) -> dict[str, Tensor]:
        return _done(self.values[name].assign(values[name]) for name in self._weights.portable)

    def _get_rows(self) -> dict[str, Tensor]:
        return {name: tf.identity(self.values[name].read_value()) for name in self._weights.slotted}

    def _set_rows(self, **rows: Tensor) -> dict[str, Tensor]:
        held = [(self.values[name], rows[name]) for name in self._weights.slotted]
        held += [(anchor, rows[name]) for name, anchor in self.anchors.items()]
        return _done(variable.assign(value) for variable, value in held)

    def _reset_optimizer(self) -> dict[str, Tensor]:
        starts = [
            (variable, self._optimizer.slots[slot]) for slots in self.slots.values() for slot, variable in slots.items()
        ]
        starts += [(variable, self._optimizer.scalars[name]) for name, variable in self.scalars.items()]
        return _done(variable.assign(tf.fill(variable.shape, np.float32(start))) for variable, start in starts)


def _floats(name: str, shape: tuple[int | None, ...]) -> Any:
    return tf.TensorSpec(shape, tf.float32, name=name)


def _targets(samples: int | None) -> list[Any]:
    return [_floats("label", (samples,)), _floats("weight", (samples,))]


def _concrete(function: Callable[..., dict[str, Tensor]], specs: Iterable[Any]) -> Signature:
    return tf.function(function, autograph=False).get_concrete_function(**{spec.name: spec for spec in specs})


def _done(assignments: Iterable[Any]) -> dict[str, Tensor]:
    with tf.control_dependencies(list(assignments)):
        return {"done": tf.constant(1, tf.int32)}
