"""Gradients of operations that only pick or repeat elements."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from converters.errors import NoGradientError
from converters.gradients.registry import gradient_of, static_shape

Tensor = Any


@gradient_of("StridedSlice")
def _strided_slice(op: Any, grad: Tensor) -> Any:
    """Put the slice's gradient back between zeros."""
    bounds = [tf.get_static_value(tensor) for tensor in op.inputs[1:]]
    if any(bound is None for bound in bounds):
        raise NoGradientError(op.type, op.name, "a slice whose bounds are known only when it runs")
    shape = static_shape(op, op.inputs[0])
    spans = _spans(op, shape, *bounds)
    grad = tf.reshape(grad, [len(span) for span in spans])
    for axis, span in enumerate(spans):
        grad = spread(grad, axis, span, shape[axis])
    return grad, None, None, None


@gradient_of("Tile")
def _tile(op: Any, grad: Tensor) -> Any:
    """Sum the copies, one axis after the other, because the runtimes refuse sums over more than four axes."""
    shape = static_shape(op, op.outputs[0])
    counts = [many // one for many, one in zip(shape, static_shape(op, op.inputs[0]), strict=True)]
    for axis, count in enumerate(counts):
        if count > 1:
            shape[axis] //= count
            copies = tf.reshape(grad, [math.prod(shape[:axis]), count, math.prod(shape[axis:])])
            grad = tf.reduce_sum(copies, axis=1)
            # Axes behind this one are still repeated, so they keep their size until their turn.
            grad = tf.reshape(grad, shape)
    return grad, None


def spread(grad: Tensor, axis: int, span: range, size: int) -> Tensor:
    """Place the entries of ``grad`` along ``axis`` at the positions of ``span`` in a row of ``size``, zeros between."""
    if span == range(size):
        return grad
    if span.step < 0:
        grad, span = tf.reverse(grad, [axis]), span[::-1]
    if span.step > 1:
        grad = _dilate(grad, axis, span.step)
    shape = grad.shape.as_list()
    first = span.start if len(span) else 0
    padding = [[0, 0] for _ in shape]
    padding[axis] = [first, max(0, size - first - shape[axis])]
    grad = tf.pad(grad, padding)
    if first + shape[axis] > size:  # zeros behind the last entry that dilation added
        shape[axis] = size
        grad = tf.slice(grad, [0] * len(shape), shape)
    return grad


def _dilate(grad: Tensor, axis: int, step: int) -> Tensor:
    """Put ``step - 1`` zeros after each entry along ``axis``."""
    shape = grad.shape.as_list()
    before, after = math.prod(shape[: axis + 1]), math.prod(shape[axis + 1 :])
    spaced = tf.pad(tf.reshape(grad, [before, 1, after]), [[0, 0], [0, step - 1], [0, 0]])
    return tf.reshape(spaced, [*shape[:axis], shape[axis] * step, *shape[axis + 1 :]])


def _spans(op: Any, shape: list[int], begin: Any, end: Any, strides: Any) -> list[range]:
    """Positions that a strided slice reads along each axis of its input."""
    masks = {name: op.get_attr(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}

    def has(name: str, entry: int) -> bool:
        return bool(masks[name] >> entry & 1)

    entries = [i for i in range(len(begin)) if not has("new_axis", i)]
    skipped = len(shape) - sum(not has("ellipsis", i) for i in entries)
    spans: list[range] = []
    for i in entries:
        if has("ellipsis", i):
            spans += [range(size) for size in shape[len(spans) : len(spans) + skipped]]
            continue
        size = shape[len(spans)]
        if has("shrink_axis", i):
            position = int(begin[i]) % size
            spans.append(range(position, position + 1))
            continue
        first = None if has("begin", i) else int(begin[i])
        last = None if has("end", i) else int(end[i])
        spans.append(range(size)[slice(first, last, int(strides[i]))])
    return spans + [range(size) for size in shape[len(spans) :]]
