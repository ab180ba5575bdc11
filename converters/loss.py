"""The loss of a step, in builtin ops."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any

_TINY = 1e-12  # keeps the mean of a batch without weight finite


def mean_loss(logit: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of binary cross-entropy; all three are [n], the result is a scalar, 0 without any weight."""
    each = tf.maximum(logit, 0.0) - logit * label + tf.math.log(1.0 + tf.exp(-tf.abs(logit)))
    return tf.reduce_sum(weight * each) / _total(weight)


def mean_loss_slope(logit: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Gradient of `mean_loss` by each logit, [n].

    In closed form it costs little, and is right at a logit of exactly 0, where that of max(x, 0) is not.
    """
    return weight * (tf.sigmoid(logit) - label) / _total(weight)


def _total(weight: Tensor) -> Tensor:
    return tf.maximum(tf.reduce_sum(weight), _TINY)
