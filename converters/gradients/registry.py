"""Which operation has which builtin-only gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from converters.errors import NoGradientError

Gradient = Callable[..., Any]

_PREFIX = "Coda"
GRADIENTS: dict[str, str] = {}


def gradient_of(*op_types: str) -> Callable[[Gradient], Gradient]:
    """Register the decorated function, from (op, *output gradients) to its input gradients, for these operations."""

    def register(function: Gradient) -> Gradient:
        for op_type in op_types:
            tf.RegisterGradient(_PREFIX + op_type)(function)
            GRADIENTS[op_type] = _PREFIX + op_type
        return function

    return register


@contextmanager
def builtin_gradients(graph: Any) -> Iterator[None]:
    """Mark every operation created in ``graph`` meanwhile with its builtin-only gradient, where there is one."""
    with graph.gradient_override_map(GRADIENTS):
        yield


def static_shape(op: Any, tensor: Any) -> list[int]:
    """The tensor's shape.

    Raises:
        NoGradientError: If an axis is known only when the operation runs.
    """
    if not tensor.shape.is_fully_defined():
        raise NoGradientError(op.type, op.name, "its shape is known only when it runs")
    return [int(size) for size in tensor.shape]
