"""Random batches that fit a model's inputs, for the parity gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from converters.lowering import layers_of
from converters.model_call import InputSpec, ModelCall
from protocol.schema import FeatureSchema

Array = NDArray[Any]

_DEFAULT_ID_BOUND = 2  # of a model without any embedding: integers can only be flags


def id_bounds(
    model: Any, call: ModelCall, schema: FeatureSchema | None, slots: Mapping[str, int] | None = None
) -> dict[str, int]:
    """An exclusive upper bound of the ids of each integer input: its vocabulary, or its table's slots."""
    rows = [layer.input_dim for layer in layers_of(model) if isinstance(layer, keras.layers.Embedding)]
    fallback = min(rows, default=_DEFAULT_ID_BOUND)
    features = () if schema is None else schema.features
    known = {f.name: (slots or {}).get(f.table or "", f.vocabulary) for f in features}
    return {spec.name: known.get(spec.name) or fallback for spec in call.inputs if spec.dtype.startswith("int")}


def random_batches(
    inputs: tuple[InputSpec, ...], bounds: Mapping[str, int], samples: int, seed: int
) -> Iterator[dict[str, Array]]:
    """Batches without end: features, ``label`` (0 or 1) and ``weight`` (in [0.5, 1.5)), each of ``samples`` rows.

    Ids are uniform below their bound, a quarter of them replaced by the padding 0; other inputs are standard normal.
    """
    rng = np.random.default_rng(seed)
    while True:
        batch = {spec.name: _column(spec, bounds, samples, rng) for spec in inputs}
        batch["label"] = rng.integers(0, 2, samples).astype(np.float32)
        batch["weight"] = rng.uniform(0.5, 1.5, samples).astype(np.float32)
        yield batch


def _column(spec: InputSpec, bounds: Mapping[str, int], samples: int, rng: np.random.Generator) -> Array:
    shape = (samples, *spec.shape)
    if spec.name in bounds:
        ids = rng.integers(0, bounds[spec.name], shape)
        return np.where(rng.random(shape) < 0.25, 0, ids).astype(spec.dtype)
    return rng.standard_normal(shape).astype(spec.dtype)
