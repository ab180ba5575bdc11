"""A SavedModel's signature as a Keras model, so that it is converted as any other.

A SavedModel holds a graph and variables, not layers. The graph is inlined into one, its variables become inputs of it,
and a Keras layer that owns the weights feeds them. It trains what the signature computes: the inference graph, without
dropout and with fixed moving statistics.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from converters.errors import ConversionError, LoadError
from converters.gradients.registry import GRADIENTS
from converters.model_call import LOGIT, as_logit

Tensor = Any

_SIGNATURES = ("serving_default", "serve")


def model_of_saved_model(folder: Path) -> Any:
    """A Keras model that computes the folder's serving signature.

    Raises:
        LoadError: If the folder is no SavedModel, or has no serving signature.
        ConversionError: If the signature's output cannot be a logit.
    """
    if not (folder / "saved_model.pb").is_file():
        raise LoadError(f"{folder}: not a SavedModel (it has no saved_model.pb)")
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, TypeError) as error:
        raise LoadError(f"{folder}: TensorFlow cannot load it: {error}") from error
    names = [name for name in _SIGNATURES if name in loaded.signatures]
    if not names:
        raise LoadError(f"{folder}: has no signature {' or '.join(_SIGNATURES)}, only {sorted(loaded.signatures)}")
    return _model(loaded.signatures[names[0]], _identifier(folder.name))


def _model(function: Any, name: str) -> Any:
    specs = function.structured_input_signature[1]
    inputs = {key: keras.Input(spec.shape[1:], dtype=spec.dtype.name, name=key) for key, spec in specs.items()}
    return keras.Model(inputs, {LOGIT: SavedModelLayer(function, name)(inputs)}, name=name)


class SavedModelLayer(keras.layers.Layer):  # type: ignore[misc]
    """Owns a signature's variables as Keras weights, and computes its logit [n] from a dict of inputs."""

    def __init__(self, function: Any, name: str) -> None:
        super().__init__(name=f"{name}_graph")
        self._variables_of_graph = _captured(function)
        self._keys = sorted(function.structured_input_signature[1])
        self._function = _as_function(function, self._keys, self._variables_of_graph, name)
        self._graph = _marked(self._function.graph.as_graph_def())

    def build(self, input_shape: Any) -> None:
        """Create the weights, with the values of the SavedModel's variables."""
        del input_shape
        self._weights_of_graph = [
            self.add_weight(
                shape=variable.shape,
                dtype=variable.dtype.name,
                initializer=keras.initializers.Constant(variable.numpy()),
                trainable=variable.trainable,
                name=_identifier(variable.name),
            )
            for variable in self._variables_of_graph.values()
        ]

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logit, by TensorFlow's own function call; tapes see through it."""
        return self._function(*self._feed(inputs))

    def builtin_call(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logit, with the graph's operations placed one by one, marked with their builtin-only gradients."""
        names = [tensor.name for tensor in self._function.inputs]
        feed = dict(zip(names, self._feed(inputs), strict=True))
        output = self._function.outputs[0].name
        return tf.graph_util.import_graph_def(self._graph, feed, [output], name=self.name)[0]

    def _feed(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        values = [keras.ops.convert_to_tensor(weight) for weight in self._weights_of_graph]
        return [*(inputs[key] for key in self._keys), *values]


def _captured(function: Any) -> dict[str, Any]:
    """The variables that a function reads, by the name that their constant gets when the function is frozen."""
    handles = {id(variable.handle): variable for variable in function.variables}
    return {
        placeholder.op.name: handles[id(outer)]
        for outer, placeholder in function.graph.captures
        if id(outer) in handles
    }


def _as_function(function: Any, keys: list[str], variables: dict[str, Any], name: str) -> Any:
    """The inlined graph as a function of its inputs and its variables' values, ending at the logit."""
    if len(function.outputs) != 1:
        raise ConversionError(f"model {name}: its signature must give one output, not {len(function.outputs)}")
    frozen = convert_variables_to_constants_v2(function)
    graph, output = frozen.graph.as_graph_def(), frozen.outputs[0].name
    fed = [f"{node}:0" for node in (*keys, *variables)]

    def compute(*tensors: Tensor) -> Tensor:
        raw = tf.graph_util.import_graph_def(graph, dict(zip(fed, tensors, strict=True)), [output], name="")
        return as_logit(raw[0], name, declared=False)

    inputs = function.structured_input_signature[1]
    specs = [tf.TensorSpec(inputs[key].shape, inputs[key].dtype) for key in keys]
    specs += [tf.TensorSpec(variable.shape, variable.dtype) for variable in variables.values()]
    return tf.function(compute, autograph=False).get_concrete_function(*specs)


def _marked(graph: Any) -> Any:
    """The graph with each operation's builtin-only gradient, which operations placed by import do not get otherwise."""
    for node in graph.node:
        if node.op in GRADIENTS:
            node.attr["_gradient_op_type"].s = GRADIENTS[node.op].encode()
    return graph


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name.removesuffix(":0")).strip("_") or "model"
