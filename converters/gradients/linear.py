"""Gradients of matrix products and table lookups."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from converters.errors import NoGradientError
from converters.gradients.registry import gradient_of, static_shape

Tensor = Any


def dense(gradient: Any) -> Tensor:
    """A gradient as one tensor: that of a table, which comes as rows and their ids, is added up by row.

    SCATTER_ND is four to seven times as fast in the runtimes as UNSORTED_SEGMENT_SUM, TensorFlow's own choice.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.scatter_nd(tf.reshape(gradient.indices, [-1, 1]), gradient.values, gradient.dense_shape)


@gradient_of("GatherV2")
def _gather(op: Any, grad: Tensor) -> Any:
    """Along the first axis, rows and their ids, so that all lookups in one table are added up at once."""
    table, ids, axis = op.inputs[0], op.inputs[1], tf.get_static_value(op.inputs[2])
    if axis is None or op.get_attr("batch_dims") != 0:
        raise NoGradientError(op.type, op.name, "a gather with batch axes or an axis known only when it runs")
    shape, flat = static_shape(op, table), tf.reshape(tf.cast(ids, tf.int32), [-1])
    axis = int(axis) % len(shape)
    if axis == 0:
        rows = tf.reshape(grad, [-1, *shape[1:]])
        return tf.IndexedSlices(rows, flat, tf.constant(shape, tf.int32)), None, None
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    picked = tf.transpose(tf.reshape(grad, [before, -1, after]), [1, 0, 2])
    summed = tf.scatter_nd(tf.reshape(flat, [-1, 1]), picked, [shape[axis], before, after])
    return tf.reshape(tf.transpose(summed, [1, 0, 2]), shape), None, None


@gradient_of("MatMul")
def _matmul(op: Any, grad: Tensor) -> Any:
    """As TensorFlow's, but for the gradient of an untransposed first factor.

    By a vector it is a product with broadcasting, which XNNPACK has in every runtime. Otherwise it is batched by hand
    and its second factor transposed apart: the converter would choose FULLY_CONNECTED, or a BATCH_MATMUL that
    transposes, which take two to three times as long in one of the runtimes, because weights are not constant here.
    """
    a, b = op.inputs
    transposed = (op.get_attr("transpose_a"), op.get_attr("transpose_b"))
    if transposed == (False, True):
        return tf.matmul(grad, b), tf.matmul(grad, a, transpose_a=True)
    if transposed == (True, False):
        return tf.matmul(b, grad, transpose_b=True), tf.matmul(a, grad)
    if transposed == (True, True):
        return tf.matmul(b, grad, transpose_a=True, transpose_b=True), tf.matmul(
            grad, a, transpose_a=True, transpose_b=True
        )
    (n, k), m = static_shape(op, a), static_shape(op, b)[1]
    by_b = tf.matmul(a, grad, transpose_a=True)
    if m == 1:
        return grad * tf.reshape(b, [1, k]), by_b
    by_a = tf.matmul(tf.reshape(grad, [1, n, m]), tf.reshape(tf.transpose(b), [1, m, k]))
    return tf.reshape(by_a, [n, k]), by_b


@gradient_of("BiasAdd")
def _bias_add(op: Any, grad: Tensor) -> Any:
    return grad, tf.reduce_sum(grad, axis=list(range(grad.shape.rank - 1)))
