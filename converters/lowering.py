"""Layers whose operations devices do not have, made to build others that say the same.

A layer object is changed only while a graph is traced from its model, and put back afterwards.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

from converters.noise import Noise

Tensor = Any
Layer = Any


def layers_of(model: Any) -> list[Layer]:
    """Every layer of a model, nested ones included, the model itself not."""
    return list(model._flatten_layers(include_self=False))


@contextmanager
def builtin_layers(model: Any) -> Iterator[None]:
    """What layers do, said in operations that devices have, or are faster with.

    Embeddings do not look for negative ids (there are none); a projection that sums nothing is a product with
    broadcasting; recurrent layers are unrolled; softsign is spelled.
    """
    with ExitStack() as stack:
        for layer in layers_of(model):
            if type(layer) is keras.layers.Embedding and not layer.lora_enabled:
                stack.enter_context(_replaced(layer, "call", _plain_lookup(layer)))
            if type(layer) is keras.layers.EinsumDense and not layer.lora_enabled and _sums_nothing(layer):
                stack.enter_context(_replaced(layer, "call", _broadcast_product(layer)))
            if hasattr(layer, "builtin_call"):
                stack.enter_context(_replaced(layer, "call", layer.builtin_call))
            if getattr(layer, "activation", None) is keras.activations.softsign:
                stack.enter_context(_replaced(layer, "activation", _softsign))
            if isinstance(layer, keras.layers.RNN):
                stack.enter_context(_replaced(layer, "unroll", True))
                if hasattr(layer, "use_cudnn"):
                    stack.enter_context(_replaced(layer, "use_cudnn", False))
        yield


@contextmanager
def exact_dropout(model: Any, noise: Noise) -> Iterator[None]:
    """Dropout layers draw their masks from ``noise``."""
    with ExitStack() as stack:
        for layer in layers_of(model):
            if isinstance(layer, keras.layers.Dropout):
                stack.enter_context(_replaced(layer, "call", _dropout(layer, noise)))
        yield


@contextmanager
def resting(layers: Iterable[Layer]) -> Iterator[None]:
    """These layers behave as in inference, whatever the call says."""
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_replaced(layer, "call", _as_in_inference(layer.call)))
        yield


@contextmanager
def _replaced(target: Any, name: str, value: Any) -> Iterator[None]:
    """Shadow an attribute in the instance's dictionary, past Keras' own attribute tracking."""
    before = {key: vars(target)[key] for key in (name,) if key in vars(target)}
    vars(target)[name] = value
    try:
        yield
    finally:
        del vars(target)[name]
        vars(target).update(before)


def _softsign(x: Tensor) -> Tensor:
    return x / (1.0 + tf.abs(x))


def _plain_lookup(layer: Layer) -> Callable[..., Tensor]:
    def call(inputs: Tensor) -> Tensor:
        return tf.gather(keras.ops.convert_to_tensor(layer.embeddings), keras.ops.cast(inputs, "int32"))

    return call


def _sums_nothing(layer: Layer) -> bool:
    """Whether the equation is as "nd,du->ndu": the last axis of the input beside new ones."""
    x, kernel, output = re.split(",|->", layer.equation)
    return "." not in layer.equation and kernel[:1] == x[-1:] and output == x + kernel[1:]


def _broadcast_product(layer: Layer) -> Callable[..., Tensor]:
    def call(inputs: Tensor, training: bool | None = None) -> Tensor:
        del training
        kernel = keras.ops.convert_to_tensor(layer.kernel)
        for _ in range(kernel.shape.rank - 1):
            inputs = tf.expand_dims(inputs, -1)
        product = inputs * kernel
        if layer.bias is not None:
            product += keras.ops.convert_to_tensor(layer.bias)
        return product if layer.activation is None else layer.activation(product)

    return call


def _dropout(layer: Layer, noise: Noise) -> Callable[..., Tensor]:
    def call(inputs: Tensor, training: bool = False) -> Tensor:
        if not training or layer.rate == 0:
            return inputs
        own = layer._get_noise_shape(inputs) if hasattr(layer, "_get_noise_shape") else layer.noise_shape
        shape = inputs.shape.as_list()
        if own is not None:
            shape = [size if wanted is None else int(wanted) for size, wanted in zip(shape, own, strict=True)]
        return inputs * noise.mask(shape, layer.rate) * (1.0 / (1.0 - layer.rate))

    return call


def _as_in_inference(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    if "training" not in inspect.signature(original).parameters:
        return original

    def call(*args: Tensor, training: bool | None = None, **kwargs: Any) -> Tensor:
        del training
        return original(*args, training=False, **kwargs)

    return call
