"""Small Keras models, each built around one layer: what the converter is proven to train, and what it refuses.

``python -m tests.converters.layer_cases`` writes docs/layers.md from them; a test holds the file to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import layers

from tests.converters.layer_models import (
    STEPS,
    Tensor,
    attention,
    gelu,
    nested,
    over_image,
    over_numbers,
    over_pair,
    over_sequence,
    over_unrolled,
    own_matrix,
    probability,
    regularised,
    self_attention,
    two_classes,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "layers.md"
_INTRODUCTION = """# Layers that train on a device

Generated from the converter's tests by `python -m tests.converters.layer_cases`; do not edit. Each row is a model that
the test suite converts, runs for 50 training steps in TensorFlow and in every installed runtime, and compares.

Everything that Keras computes with the operations of these layers trains as well: what counts is the operation, not the
layer's name. `coda convert` proves each file before it writes it, so a model beyond this table can simply be tried.

| layer | proven | notes |
|---|---|---|
"""
_REFUSED = """
## What is refused

The error names the layer, the operation and a way out; nothing is written.

| layer | way out |
|---|---|
"""


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        layer: What it is built around, as the table names it.
        variant: Which options of it.
        build: Makes the model.
        notes: What a reader should know.
    """

    layer: str
    variant: str
    build: Callable[[], Any]
    notes: str = ""

    @property
    def id(self) -> str:
        """Its name among test cases."""
        return f"{self.layer} {self.variant}".replace(" ", "_").replace(";", "")


@dataclass(frozen=True)
class Refusal:
    """A model that cannot be converted, the layer that the error must name, and what it must suggest."""

    layer: str
    build: Callable[[], Any]
    name: str
    way_out: str


def _branches(names: str) -> Case:
    """One model with a branch for each of these activations; parity names the branch that differs."""

    def chain(x: Tensor) -> Tensor:
        return layers.Concatenate()([layers.Dense(3, activation=name, name=name)(x) for name in names.split()])

    return Case("Activation", names.replace(" ", "; "), over_numbers(chain))


_MERGES = (
    layers.Concatenate,
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
)
_UNROLLED = "unrolled: the file grows with the number of steps"
_MASKS = "masks are drawn by integer arithmetic, the same in every runtime"


CASES: tuple[Case, ...] = (
    _branches("relu relu6 leaky_relu elu selu celu hard_tanh"),
    _branches("sigmoid hard_sigmoid log_sigmoid tanh tanh_shrink softplus softsign"),
    _branches("silu hard_silu mish softmax log_softmax exponential squareplus"),
    Case("Activation", "gelu approximate", over_numbers(layers.Activation(gelu)), "exact gelu is refused"),
    Case("LeakyReLU", "slope 0.3", over_numbers(layers.LeakyReLU(0.3))),
    Case("PReLU", "", over_numbers(layers.PReLU(alpha_initializer="ones"))),
    Case("ReLU", "bounded and leaking", over_numbers(layers.ReLU(max_value=1.0, negative_slope=0.1))),
    Case("Softmax", "", over_numbers(layers.Softmax())),
    Case("Dense", "nested and shared", nested),
    Case("Dense", "regularised", regularised, "regularisers add to the loss"),
    Case("Dense", "probability", probability, "a sigmoid output counts as a probability; `infer` gives its logit"),
    Case("Dense", "softmax of two", two_classes, "the logit is the difference of the two"),
    Case("Embedding", "", over_sequence(lambda h: h), "ids must not be negative"),
    Case("LayerNormalization", "", over_numbers(layers.LayerNormalization())),
    Case("RMSNormalization", "", over_numbers(layers.RMSNormalization())),
    Case("GroupNormalization", "2 groups", over_numbers(layers.GroupNormalization(2))),
    Case("UnitNormalization", "", over_numbers(layers.UnitNormalization())),
    Case(
        "BatchNormalization",
        "vectors",
        over_numbers(layers.BatchNormalization()),
        "moving statistics move with training",
    ),
    Case("BatchNormalization", "sequence", over_sequence(layers.BatchNormalization())),
    Case("Normalization", "", over_numbers(layers.Normalization(mean=0.5, variance=2.0))),
    Case("Rescaling", "", over_numbers(layers.Rescaling(0.5, 1.0))),
    Case("Dropout", "0.3", over_numbers(layers.Dropout(0.3)), _MASKS),
    Case("SpatialDropout1D", "0.3", over_sequence(layers.SpatialDropout1D(0.3)), _MASKS),
    *(Case(merge.__name__, "", over_pair(merge())) for merge in _MERGES),
    Case("Dot", "vectors", over_pair(layers.Dot(1))),
    Case("Dot", "normalised", over_pair(layers.Dot(1, normalize=True))),
    Case("Dot", "sequences", over_sequence(attention(layers.Dot((2, 2))))),
    Case("Reshape", "with Permute", over_sequence(lambda h: layers.Permute((2, 1))(layers.Reshape((3, 8))(h)))),
    Case("RepeatVector", "", over_numbers(lambda h: layers.Flatten()(layers.RepeatVector(3)(h)))),
    Case("Cropping1D", "", over_sequence(layers.Cropping1D((1, 2)))),
    Case("ZeroPadding1D", "", over_sequence(layers.ZeroPadding1D((1, 2)))),
    Case("UpSampling1D", "", over_sequence(layers.UpSampling1D(2))),
    Case("Lambda", "slices", over_numbers(layers.Lambda(lambda h: h[:, 1:4] * h[:, ::-2] + h[:, -1:]))),
    Case("Lambda", "take", over_numbers(layers.Lambda(lambda h: keras.ops.take(h, [0, 3, 3], axis=1)))),
    Case("GlobalAveragePooling1D", "", over_sequence(layers.GlobalAveragePooling1D())),
    Case("GlobalAveragePooling1D", "masked", over_sequence(layers.GlobalAveragePooling1D(), masked=True)),
    Case("GlobalMaxPooling1D", "", over_sequence(layers.GlobalMaxPooling1D())),
    Case("AveragePooling1D", "same", over_sequence(layers.AveragePooling1D(3, strides=2, padding="same"))),
    Case("MaxPooling1D", "same", over_sequence(layers.MaxPooling1D(3, strides=2, padding="same"))),
    Case("MaxPooling1D", "valid with ties", over_sequence(lambda h: layers.MaxPooling1D(2)(layers.ReLU()(h)))),
    Case("Conv1D", "valid", over_sequence(layers.Conv1D(5, 3, activation="relu")), "not in groups"),
    Case("Conv1D", "same and strided", over_sequence(layers.Conv1D(5, 3, strides=2, padding="same"))),
    Case("Conv1D", "causal and dilated", over_sequence(layers.Conv1D(5, 2, dilation_rate=2, padding="causal"))),
    Case("Conv2D", "with MaxPooling2D", over_image(lambda x: layers.MaxPooling2D(2)(layers.Conv2D(3, 2)(x)))),
    Case("EinsumDense", "a matrix for each sample", over_numbers(own_matrix)),
    Case("EinsumDense", "over a sequence", over_sequence(layers.EinsumDense("ntd,du->ntu", (STEPS, 3), bias_axes="u"))),
    Case("TimeDistributed", "Dense", over_sequence(layers.TimeDistributed(layers.Dense(3, activation="relu")))),
    Case("GRU", "", over_unrolled(layers.GRU(4)), _UNROLLED),
    Case("GRU", "masked", over_unrolled(layers.GRU(4), masked=True)),
    Case("GRU", "sequences with reset before", over_unrolled(layers.GRU(3, return_sequences=True, reset_after=False))),
    Case("LSTM", "", over_unrolled(layers.LSTM(4)), _UNROLLED),
    Case("SimpleRNN", "", over_unrolled(layers.SimpleRNN(4)), _UNROLLED),
    Case("Bidirectional", "GRU", over_unrolled(layers.Bidirectional(layers.GRU(2))), _UNROLLED),
    Case("MultiHeadAttention", "", over_sequence(self_attention(layers.MultiHeadAttention(2, 3)))),
    Case("MultiHeadAttention", "masked", over_sequence(self_attention(layers.MultiHeadAttention(2, 3)), masked=True)),
    Case("MultiHeadAttention", "dropout", over_sequence(self_attention(layers.MultiHeadAttention(2, 3, dropout=0.2)))),
    Case("GroupQueryAttention", "", over_sequence(self_attention(layers.GroupQueryAttention(3, 4, 2)))),
    Case("Attention", "scaled", over_sequence(attention(layers.Attention(use_scale=True)))),
    Case("AdditiveAttention", "", over_sequence(attention(layers.AdditiveAttention()))),
)

REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "exact gelu",
        over_numbers(layers.Dense(6, activation="gelu", name="curved")),
        "curved",
        "use gelu with approximate=True",
    ),
    Refusal("GaussianNoise", over_numbers(layers.GaussianNoise(0.1, name="noisy")), "noisy", "use Dropout"),
    Refusal(
        "GRU with its own dropout", over_unrolled(layers.GRU(2, dropout=0.2, name="memory")), "memory", "use Dropout"
    ),
    Refusal("SeparableConv1D", over_sequence(layers.SeparableConv1D(2, 2, name="apart")), "apart", "use Conv1D"),
    Refusal(
        "Lambda with prod",
        over_numbers(layers.Lambda(lambda h: keras.ops.prod(h, axis=1, keepdims=True), name="product")),
        "product",
        "exponential of a sum of logarithms",
    ),
)


def document() -> str:
    """The text of docs/layers.md."""
    variants: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    for case in CASES:
        variants.setdefault(case.layer, []).append(case.variant or "defaults")
        notes.setdefault(case.layer, []).extend([case.notes] if case.notes else [])
    rows = [f"| {name} | {'; '.join(variants[name])} | {'; '.join(dict.fromkeys(notes[name]))} |" for name in variants]
    refused = [f"| {refusal.layer} | {refusal.way_out} |" for refusal in REFUSALS]
    return _INTRODUCTION + "\n".join(rows) + "\n" + _REFUSED + "\n".join(refused) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
