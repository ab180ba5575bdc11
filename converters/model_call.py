"""Calling a Keras model with given weights: inputs by name, the logit whatever the model's output layer is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from converters.errors import ConversionError
from converters.lowering import builtin_layers, exact_dropout, resting
from converters.noise import Noise

Tensor = Any
Assignment = tuple[Any, Tensor]

LOGIT = "logit"
VECTORS = ("user_vector", "item_vector")
_RESERVED = ("label", "weight", "learning_rate", "proximal", "momentum", "epsilon", "beta_1", "beta_2")
_KEEPS_VALUES = ("Reshape", "Squeeze", "ExpandDims", "Identity")


@dataclass(frozen=True)
class InputSpec:
    """One input of a model; ``shape`` is a sample's, without the batch axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def tensor_spec(self, samples: int | None) -> Any:
        """TensorFlow's description of a batch of ``samples``, of any size for None."""
        return tf.TensorSpec((samples, *self.shape), self.dtype, name=self.name)


@dataclass(frozen=True)
class CallResult:
    """What one call gives.

    Attributes:
        outputs: By name; ``logit`` is [n].
        penalty: Sum of the losses that layers and regularisers add, or None without any.
        updates: The values after the call of the variables that were watched.
    """

    outputs: dict[str, Tensor]
    penalty: Tensor | None
    updates: list[Tensor]


class ModelCall:
    """A Keras model as a function of its weights and of inputs by name; to be called inside a ``tf.function``.

    Attributes:
        inputs: What a batch holds, in the model's order.
        output_names: What a call gives.

    Raises:
        ConversionError: If an input has no fixed shape or a name that is taken, or no output can be a logit.
    """

    def __init__(self, model: Any, resting_layers: Iterable[Any] = ()) -> None:
        require_model(model)
        self._model = model
        self._resting = tuple(resting_layers)
        self._struct = _structure(model, "inputs")
        self.inputs = tuple(_input_spec(tensor, model) for tensor in keras.tree.flatten(self._struct))
        self.output_names = tuple(_named(_structure(model, "outputs"), model.name))

    def __call__(
        self,
        values: Iterable[Assignment],
        batch: Mapping[str, Tensor],
        *,
        noise: Noise | None = None,
        watch: Iterable[Any] = (),
        builtin: bool = True,
    ) -> CallResult:
        """Run the model with ``values`` in place of its variables.

        Args:
            values: Pairs of a Keras variable and the tensor that stands for it.
            batch: One tensor per input, [n, ...].
            noise: Given, layers behave as in training and dropout draws from it.
            watch: Variables whose value after the call is wanted, in order.
            builtin: Whether layers build operations that devices have, or Keras' own.
        """
        packed = keras.tree.pack_sequence_as(self._struct, [batch[spec.name] for spec in self.inputs])
        with ExitStack() as stack:
            if builtin:
                stack.enter_context(builtin_layers(self._model))
            if noise is not None:
                stack.enter_context(exact_dropout(self._model, noise))
            stack.enter_context(resting(self._resting))
            scope = stack.enter_context(keras.StatelessScope())
            for pair in values:
                scope.add_update(pair)  # does not ask for the variable's shape: a table may have fewer rows here
            raw = self._model(packed, training=noise is not None)
            penalties = list(self._model.losses)
        outputs = _named(raw, self._model.name)
        outputs[LOGIT] = as_logit(outputs[LOGIT], self._model.name, declared=isinstance(raw, Mapping))
        penalty = tf.add_n(penalties) if penalties else None
        return CallResult(outputs, penalty, [scope.get_current_value(variable) for variable in watch])


def require_model(model: Any) -> None:
    """Refuse what is no Keras model over symbolic inputs.

    Raises:
        ConversionError: If it is not.
    """
    if not isinstance(model, keras.Model):
        raise ConversionError(f"needs a keras.Model, got {type(model).__name__}")
    if not getattr(model, "inputs", None):
        raise ConversionError(
            f"model {model.name} has no symbolic inputs; wrap it: keras.Model(x, model(x)) with x of keras.Input"
        )


def _structure(model: Any, which: str) -> Any:
    """Its ``inputs`` or ``outputs`` as the model takes and gives them: a dict, a list or one tensor."""
    if hasattr(model, f"_{which}_struct"):
        return getattr(model, f"_{which}_struct")
    tensors = getattr(model, which)
    return tensors[0] if len(tensors) == 1 else tensors


def _input_spec(tensor: Any, model: Any) -> InputSpec:
    shape = tuple(tensor.shape[1:])
    if None in shape:
        raise ConversionError(
            f"model {model.name}: input {tensor.name} is {tensor.shape}; all axes but n must be fixed"
        )
    if tensor.name in _RESERVED or not tensor.name.isidentifier():
        raise ConversionError(f"model {model.name}: input {tensor.name!r} needs a name that is free and an identifier")
    return InputSpec(tensor.name, shape, keras.backend.standardize_dtype(tensor.dtype))


def _named(raw: Any, model: str) -> dict[str, Tensor]:
    """Outputs by name; a model's only output is its logit."""
    if isinstance(raw, Mapping) and LOGIT in raw:
        return dict(raw)
    flat = keras.tree.flatten(raw)
    if len(flat) == 1 and not isinstance(raw, Mapping):
        return {LOGIT: flat[0]}
    raise ConversionError(f"model {model}: must return one tensor, or a dict with {LOGIT!r}")


def as_logit(output: Tensor, model: str, *, declared: bool) -> Tensor:
    """The logit [n] behind a symbolic output: itself, or what went into the sigmoid or two-class softmax that made it.

    One that the model itself ``declared`` to be the logit is taken at its word.

    Raises:
        ConversionError: If it is neither; ``model`` names whose output it is.
    """
    shape, source = output.shape.as_list(), output.op
    while source.type in _KEEPS_VALUES:
        source = source.inputs[0].op
    if not declared and source.type == "Sigmoid":
        output = source.inputs[0]
    elif not declared and source.type == "Softmax" and shape[1:] == [2]:
        return tf.reduce_sum(source.inputs[0] * tf.constant([-1.0, 1.0]), axis=-1)
    if shape[1:] not in ([], [1]) or not output.dtype.is_floating:
        raise ConversionError(
            f"model {model}: its output is {output.dtype.name} {shape}; it must be one logit or probability a sample, "
            "[n] or [n, 1], or the softmax of two classes, [n, 2]"
        )
    return tf.reshape(output, [-1])
