"""Which weights of a Keras model train, and what they are called in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.lowering import layers_of
from converters.tables import SlottedWeight, slotted_weights
from protocol.schema import FeatureSchema


@dataclass(frozen=True)
class WeightSelection:
    """The weights of a model, parted.

    Attributes:
        trained: Those that a step changes by their gradient, by name.
        state: Those that a step changes otherwise (moving statistics of a layer that trains), by name.
        frozen: All others.
        resting: Layers with moving statistics of which nothing trains; they behave as in inference.
        slotted: Those whose rows are set from outside, by name; those of them that do not train are in none of the
            first three.
    """

    trained: dict[str, Any]
    state: dict[str, Any]
    frozen: tuple[Any, ...]
    resting: tuple[Any, ...] = ()
    slotted: dict[str, SlottedWeight] = field(default_factory=dict)

    @property
    def portable(self) -> dict[str, Any]:
        """What ``get_weights`` gives and ``set_weights`` takes: everything that training changes, by name."""
        return {**self.trained, **self.state}

    @property
    def held(self) -> dict[str, Any]:
        """Every weight that is a variable of the file, by name."""
        return {**self.portable, **{name: weight.variable for name, weight in self.slotted.items()}}

    def start(self) -> dict[str, NDArray[Any]]:
        """The value of every held weight in the file: the model's, or zeros where rows are to be set."""
        return {name: self._start(name, variable) for name, variable in self.held.items()}

    def _start(self, name: str, variable: Any) -> NDArray[Any]:
        return np.zeros(self.slotted[name].shape, np.float32) if name in self.slotted else np.asarray(variable)


def select_weights(
    model: Any, trainable: str, slots: Mapping[str, int] | None = None, schema: FeatureSchema | None = None
) -> WeightSelection:
    """Part the weights of ``model`` by the trainable set and the slots that `ConvertOptions` describes.

    Raises:
        ConversionError: If no weight is chosen, or a table cannot have slots.
    """
    tables = {id(weight.variable): weight for weight in slotted_weights(model, slots or {}, schema)}
    chosen = [v for v in model.trainable_variables if _is_chosen(v, trainable, _embedding_paths(model))]
    if not chosen:
        paths = ", ".join(v.path for v in model.trainable_variables) or "none at all"
        raise ConversionError(f"trainable {trainable!r} chooses no weight of model {model.name}; it has {paths}")
    _refuse_what_cannot_train(chosen)
    training_layers = {_layer_path(v) for v in chosen}
    statistics = [v for v in model.non_trainable_variables if _is_state(v)]
    state = [v for v in statistics if _layer_path(v) in training_layers]
    still = {_layer_path(v) for v in statistics} - training_layers
    held = [*chosen, *state, *(v for v in model.variables if id(v) in tables and not _is_in(v, chosen))]
    names = _names(held, f"{model.name}/")
    return WeightSelection(
        trained={names[id(v)]: v for v in chosen},
        state={names[id(v)]: v for v in state},
        frozen=tuple(v for v in model.variables if id(v) not in names),
        resting=tuple(layer for layer in layers_of(model) if layer.path in still),
        slotted={names[key]: weight for key, weight in tables.items()},
    )


def _is_in(variable: Any, chosen: Iterable[Any]) -> bool:
    return any(variable is other for other in chosen)


def _is_chosen(variable: Any, trainable: str, embeddings: set[str]) -> bool:
    if trainable == "all":
        return True
    if trainable in ("embeddings", "head"):
        return (variable.path in embeddings) == (trainable == "embeddings")
    return re.search(trainable, variable.path) is not None


def _embedding_paths(model: Any) -> set[str]:
    tables = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.Embedding)]
    return {v.path for layer in tables for v in layer.variables}


def _refuse_what_cannot_train(chosen: Iterable[Any]) -> None:
    for variable in chosen:
        if variable.dtype != "float32":
            raise ConversionError(f"weight {variable.path} is {variable.dtype}; weights that train must be float32")
        if variable.constraint is not None:
            raise ConversionError(f"weight {variable.path} has a constraint, which no step would keep; remove it")


def _is_state(variable: Any) -> bool:
    return str(variable.dtype).startswith("float")  # seeds of random generators are integers


def _layer_path(variable: Any) -> str:
    return str(variable.path).rpartition("/")[0]


def _names(variables: Iterable[Any], prefix: str) -> dict[int, str]:
    """A readable identifier for each variable, by its Python identity: its Keras path with ``_`` for ``/``."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for variable in variables:
        base = name = re.sub(r"\W+", "_", variable.path.removeprefix(prefix)).strip("_").lower()
        suffix = 1
        while name in taken:
            suffix += 1
            name = f"{base}_{suffix}"
        taken.add(name)
        names[id(variable)] = name
    return names
