"""Calling a Keras model with given weights: inputs by name, the logit whatever the model's output layer is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from converters.errors import ConversionError

Tensor = Any
Assignment = tuple[Any, Tensor]

LOGIT = "logit"
VECTORS = ("user_vector", "item_vector")
RESERVED = ("label", "weight", "learning_rate", "proximal")


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
    """What one call gives: the outputs by name, and the new value of every variable that the call updated."""

    outputs: dict[str, Tensor]
    updates: list[Tensor]


class ModelCall:
    """A Keras model as a function of its weights and of inputs by name.

    Attributes:
        inputs: What a batch holds, in the model's order.
        output_names: What a call gives.

    Raises:
        ConversionError: If the model is not built, or an input has no fixed shape or a name that is taken.
    """

    def __init__(self, model: Any) -> None:
        if not isinstance(model, keras.Model) or not model.built:
            raise ConversionError(
                f"needs a built keras.Model, got {type(model).__name__}; call it once or give it Inputs"
            )
        self._model = model
        self._struct = _input_structure(model)
        self.inputs = tuple(_input_spec(tensor, model) for tensor in keras.tree.flatten(self._struct))
        self.output_names = tuple(self._named(model.output))

    def __call__(
        self, values: Iterable[Assignment], batch: Mapping[str, Tensor], *, training: bool, watch: Iterable[Any] = ()
    ) -> CallResult:
        """Run the model with ``values`` in place of its variables.

        Args:
            values: Pairs of a Keras variable and the tensor that stands for it.
            batch: One tensor per input, [n, ...].
            training: Whether layers behave as in training.
            watch: Variables whose value after the call is wanted, in order.
        """
        packed = keras.tree.pack_sequence_as(self._struct, [batch[spec.name] for spec in self.inputs])
        with keras.StatelessScope(state_mapping=list(values)) as scope:
            raw = self._model(packed, training=training)
        return CallResult(self._named(raw), [scope.get_current_value(variable) for variable in watch])

    def _named(self, raw: Any) -> dict[str, Tensor]:
        outputs = dict(raw) if isinstance(raw, Mapping) else {LOGIT: raw}
        if LOGIT not in outputs or not hasattr(outputs[LOGIT], "shape"):
            raise ConversionError(f"model {self._model.name}: must return one tensor, or a dict with {LOGIT!r}")
        shape = tuple(outputs[LOGIT].shape)
        if shape[1:] not in ((), (1,)):
            raise ConversionError(f"model {self._model.name}: {LOGIT} must be [n] or [n, 1], got {shape}")
        outputs[LOGIT] = keras.ops.reshape(outputs[LOGIT], (-1,))
        return outputs


def _input_structure(model: Any) -> Any:
    """The structure of inputs, as the model takes them: a dict, a list or one tensor."""
    if hasattr(model, "_inputs_struct"):
        return model._inputs_struct
    return model.inputs[0] if len(model.inputs) == 1 else model.inputs


def _input_spec(tensor: Any, model: Any) -> InputSpec:
    shape = tuple(tensor.shape[1:])
    if None in shape:
        raise ConversionError(
            f"model {model.name}: input {tensor.name} has shape {tensor.shape}; all but n must be fixed"
        )
    if tensor.name in RESERVED or not tensor.name.isidentifier():
        raise ConversionError(f"model {model.name}: input {tensor.name!r} needs a name that is free and an identifier")
    return InputSpec(tensor.name, shape, keras.backend.standardize_dtype(tensor.dtype))
