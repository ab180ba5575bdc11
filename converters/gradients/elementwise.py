"""Gradients of functions of each element alone."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from converters.gradients.registry import gradient_of

Tensor = Any

_STEEP = 1e30  # any float that counts is at least 1 when multiplied by it


def _is_positive(x: Tensor) -> Tensor:
    """1.0 where x > 0, else 0.0, of an x that is never negative.

    One multiplication with a fused activation, which XNNPACK has; SIGN, which it has not, takes up to four times as
    long, and comparing and casting longer still.
    """
    return tf.clip_by_value(x * _STEEP, -1.0, 1.0)


@gradient_of("Relu")
def _relu(op: Any, grad: Tensor) -> Tensor:
    return grad * _is_positive(op.outputs[0])


@gradient_of("Relu6")
def _relu6(op: Any, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    return grad * _is_positive(y * (6.0 - y))


@gradient_of("LeakyRelu")
def _leaky_relu(op: Any, grad: Tensor) -> Tensor:
    positive = _is_positive(tf.maximum(op.inputs[0], 0.0))
    alpha = op.get_attr("alpha")
    return grad * (alpha + (1.0 - alpha) * positive)


@gradient_of("Elu")
def _elu(op: Any, grad: Tensor) -> Tensor:
    # Below 0 the output is e^x - 1, so its slope is the output + 1.
    return grad * (tf.minimum(op.outputs[0], 0.0) + 1.0)


@gradient_of("Sigmoid")
def _sigmoid(op: Any, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    return grad * y * (1.0 - y)


@gradient_of("Tanh")
def _tanh(op: Any, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    return grad * (1.0 - y * y)


@gradient_of("Sqrt")
def _sqrt(op: Any, grad: Tensor) -> Tensor:
    return grad * 0.5 / op.outputs[0]


@gradient_of("Rsqrt")
def _rsqrt(op: Any, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    return grad * -0.5 * y * y * y
