"""Gradients of convolutions and pooling over [n, height, width, channels]; one-dimensional layers have height 1.

Each is a sum over the taps of the window: what a tap read is a strided slice of the padded input, and its gradient
goes back to the same places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from converters.errors import NoGradientError
from converters.gradients.registry import gradient_of, static_shape
from converters.gradients.shape import spread

Tensor = Any

_LOWEST = -3.0e38  # never a window's maximum


@dataclass(frozen=True)
class _Windows:
    """Where the windows of an operation lie in its padded input, along height and width."""

    input_size: tuple[int, int]
    output_size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    def spans(self) -> Iterator[tuple[range, range]]:
        """For each tap, row by row, the positions that it reads."""
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                yield self._span(0, i), self._span(1, j)

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """The input with its padding."""
        return tf.pad(x, [[0, 0], *(list(p) for p in self.padding), [0, 0]], constant_values=value)

    def read(self, padded: Tensor, rows: range, columns: range) -> Tensor:
        """What one tap reads: [n, output height, output width, channels]."""
        return padded[:, rows.start : rows.stop : rows.step, columns.start : columns.stop : columns.step, :]

    def write(self, grads: list[Tensor]) -> Tensor:
        """Add up what each tap's reading is to have, in the unpadded input's shape."""
        sizes = [size + sum(pad) for size, pad in zip(self.input_size, self.padding, strict=True)]
        placed = [
            spread(spread(grad, 1, rows, sizes[0]), 2, columns, sizes[1])
            for grad, (rows, columns) in zip(grads, self.spans(), strict=True)
        ]
        total = tf.add_n(placed) if len(placed) > 1 else placed[0]
        n, channels = total.shape[0], total.shape[3]
        return tf.slice(total, [0, self.padding[0][0], self.padding[1][0], 0], [n, *self.input_size, channels])

    def _span(self, axis: int, tap: int) -> range:
        first, step = tap * self.dilation[axis], self.stride[axis]
        return range(first, first + (self.output_size[axis] - 1) * step + 1, step)


def _windows(op: Any, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> _Windows:
    if op.get_attr("data_format") != b"NHWC" or op.get_attr("padding") not in (b"SAME", b"VALID"):
        raise NoGradientError(op.type, op.name, "only channels_last with padding same, valid or causal")
    size, output = _plane(static_shape(op, op.inputs[0])), _plane(static_shape(op, op.outputs[0]))
    stride = _plane(op.get_attr("strides"))
    padding = []
    for axis in range(2):
        reach = (output[axis] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1
        missing = max(0, reach - size[axis]) if op.get_attr("padding") == b"SAME" else 0
        padding.append((missing // 2, missing - missing // 2))
    return _Windows(size, output, kernel, stride, dilation, (padding[0], padding[1]))


def _plane(sizes: list[int]) -> tuple[int, int]:
    """Height and width of [n, height, width, channels]."""
    return int(sizes[1]), int(sizes[2])


@gradient_of("Conv2D")
def _conv(op: Any, grad: Tensor) -> Any:
    x, kernel = op.inputs
    height, width, channels, filters = static_shape(op, kernel)
    if static_shape(op, x)[3] != channels:
        raise NoGradientError(op.type, op.name, "a convolution in groups")
    windows = _windows(op, (height, width), _plane(op.get_attr("dilations")))
    padded, flat = windows.pad(x), tf.reshape(grad, [-1, filters])
    read = [tf.reshape(windows.read(padded, *span), [-1, channels]) for span in windows.spans()]
    by_kernel = tf.matmul(tf.concat(read, axis=1), flat, transpose_a=True)
    taps = tf.matmul(flat, tf.reshape(kernel, [-1, filters]), transpose_b=True)
    shape = [*static_shape(op, grad)[:3], channels]
    by_x = [tf.reshape(tap, shape) for tap in tf.split(taps, height * width, axis=1)]
    return windows.write(by_x), tf.reshape(by_kernel, kernel.shape)


@gradient_of("AvgPool")
def _average_pool(op: Any, grad: Tensor) -> Tensor:
    """Padding does not count in a mean."""
    windows = _windows(op, _plane(op.get_attr("ksize")))
    inside = np.pad(np.ones(windows.input_size, np.float32), windows.padding)
    counts = sum(inside[np.ix_(rows, columns)] for rows, columns in windows.spans())
    share = grad / np.asarray(counts)[None, :, :, None]
    return windows.write([share for _ in windows.spans()])


@gradient_of("MaxPool")
def _max_pool(op: Any, grad: Tensor) -> Tensor:
    """All to the first of equal maxima, as TensorFlow's kernel gives it."""
    windows, maximum = _windows(op, _plane(op.get_attr("ksize"))), op.outputs[0]
    padded = windows.pad(op.inputs[0], _LOWEST)
    grads, free = [], tf.ones_like(maximum)
    for span in windows.spans():
        chosen = free * (1.0 - tf.sign(maximum - windows.read(padded, *span)))
        free -= chosen
        grads.append(grad * chosen)
    return windows.write(grads)
