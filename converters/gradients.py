"""Gradients made of builtin TFLite ops.

TensorFlow differentiates many operations into one fused operation (``ReluGrad``, ``StridedSliceGrad``) that only
its own kernels know. Inside `builtin_gradients` an operation is marked, as it is created, with a gradient written
in operations that every TFLite runtime has. Only symbolic ``tf.gradients`` looks at the mark; a tape does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

Tensor = Any
Gradient = Callable[..., Any]

_PREFIX = "Coda"
_GRADIENTS: dict[str, str] = {}


@contextmanager
def builtin_gradients(graph: Any) -> Iterator[None]:
    """Mark every operation created in ``graph`` meanwhile with its builtin-only gradient, where there is one."""
    with graph.gradient_override_map(_GRADIENTS):
        yield


def _gradient_of(*op_types: str) -> Callable[[Gradient], Gradient]:
    def register(function: Gradient) -> Gradient:
        for op_type in op_types:
            tf.RegisterGradient(_PREFIX + op_type)(function)
            _GRADIENTS[op_type] = _PREFIX + op_type
        return function

    return register


def dense(gradient: Any) -> Tensor:
    """A gradient as one tensor: that of a table, which comes as rows and their ids, is added up by row.

    SCATTER_ND is four to seven times as fast in the runtimes as UNSORTED_SEGMENT_SUM, TensorFlow's own choice.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    indices = tf.reshape(gradient.indices, [-1, 1])
    return tf.scatter_nd(indices, gradient.values, gradient.dense_shape)


@_gradient_of("Relu")
def _relu(op: Any, grad: Tensor) -> Tensor:
    # The output is never negative, so its sign is the 0 or 1 wanted; comparing and casting takes six times as long.
    return grad * tf.sign(op.outputs[0])


@_gradient_of("Relu6")
def _relu6(op: Any, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    return grad * tf.sign(y * (6.0 - y))


@_gradient_of("LeakyRelu")
def _leaky_relu(op: Any, grad: Tensor) -> Tensor:
    positive = tf.sign(tf.maximum(op.inputs[0], 0.0))
    alpha = op.get_attr("alpha")
    return grad * (alpha + (1.0 - alpha) * positive)


@_gradient_of("Elu")
def _elu(op: Any, grad: Tensor) -> Tensor:
    # For x < 0 the output is e^x - 1, so its slope is the output + 1.
    return grad * (tf.minimum(op.outputs[0], 0.0) + 1.0)


@_gradient_of("Sigmoid")
def _sigmoid(op: Any, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    return grad * y * (1.0 - y)


@_gradient_of("Tanh")
def _tanh(op: Any, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    return grad * (1.0 - y * y)


@_gradient_of("Sqrt")
def _sqrt(op: Any, grad: Tensor) -> Tensor:
    return grad * 0.5 / op.outputs[0]


@_gradient_of("Rsqrt")
def _rsqrt(op: Any, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    return grad * -0.5 * y * y * y


@_gradient_of("BiasAdd")
def _bias_add(op: Any, grad: Tensor) -> Any:
    return grad, tf.reduce_sum(grad, axis=list(range(grad.shape.rank - 1)))


@_gradient_of("GatherV2")
def _gather(op: Any, grad: Tensor) -> Any:
    """Rows and their ids, so that all lookups in one table are added up at once; along the first axis only."""
    table, ids, axis = op.inputs
    if tf.get_static_value(axis) != 0 or op.get_attr("batch_dims") != 0:
        raise LookupError("a gather along another axis than the first")
    shape = table.shape.as_list()
    rows, flat = tf.reshape(grad, [-1, *shape[1:]]), tf.reshape(tf.cast(ids, tf.int32), [-1])
    return tf.IndexedSlices(rows, flat, tf.constant(shape, tf.int32)), None, None


@_gradient_of("MatMul")
def _matmul(op: Any, grad: Tensor) -> Any:
    """As TensorFlow's, for untransposed factors.

    The first factor's gradient is batched by hand: as FULLY_CONNECTED, which the converter would choose, it takes twice
    as long in ai-edge-litert because the weights there are not constant.
    """
    a, b = op.inputs
    if op.get_attr("transpose_a") or op.get_attr("transpose_b"):
        raise LookupError("a matrix product with a transposed factor")
    (n, k), m = a.shape.as_list(), b.shape.as_list()[1]
    by_a = tf.matmul(tf.reshape(grad, [1, n, m]), tf.reshape(b, [1, k, m]), transpose_b=True)
    return tf.reshape(by_a, [n, k]), tf.matmul(a, grad, transpose_a=True)


@_gradient_of("StridedSlice")
def _strided_slice(op: Any, grad: Tensor) -> Any:
    """Put the slice's gradient back between zeros. Bounds must be constants, the shape static."""
    bounds = [tf.get_static_value(tensor) for tensor in op.inputs[1:]]
    if any(bound is None for bound in bounds) or not op.inputs[0].shape.is_fully_defined():
        raise LookupError("a slice whose bounds or shape are known only when it runs")
    shape = op.inputs[0].shape.as_list()
    spans = _spans(op, shape, *bounds)
    grad = tf.reshape(grad, [len(span) for span in spans])
    for axis, span in enumerate(spans):
        grad = _spread(grad, axis, span, shape[axis])
    return grad, None, None, None, None


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


def _spread(grad: Tensor, axis: int, span: range, size: int) -> Tensor:
    """Place the entries of ``grad`` along ``axis`` at the positions of ``span`` in a row of ``size``, zeros between."""
    if span == range(size):
        return grad
    if span.step < 0:
        grad, span = tf.reverse(grad, [axis]), span[::-1]
    if span.step > 1:
        grad = _dilate(grad, axis, span.step)
    first = span.start if len(span) else 0
    length = grad.shape.as_list()[axis]
    padding = [[0, 0] for _ in range(grad.shape.rank)]
    padding[axis] = [first, max(0, size - first - length)]
    grad = tf.pad(grad, padding)
    begin = [0] * grad.shape.rank
    extent = grad.shape.as_list()
    extent[axis] = size
    return tf.slice(grad, begin, extent)


def _dilate(grad: Tensor, axis: int, step: int) -> Tensor:
    """Put ``step - 1`` zeros after each entry along ``axis``."""
    shape = grad.shape.as_list()
    columns = tf.reshape(grad, [*shape[: axis + 1], 1, *shape[axis + 1 :]])
    padding = [[0, 0] for _ in range(columns.shape.rank)]
    padding[axis + 1] = [0, step - 1]
    return tf.reshape(tf.pad(columns, padding), [*shape[:axis], shape[axis] * step, *shape[axis + 1 :]])
