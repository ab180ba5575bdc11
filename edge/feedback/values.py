"""What an app says of features, as plain values, turned into the columns that a schema asks for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadRequestError
from protocol.schema import Feature, FeatureKind

Array = NDArray[Any]


def column_of(feature: Feature, values: Sequence[Any]) -> Array:
    """One value a sample as a column, int32 or float32, [n] or [n, length].

    A set or sequence of ids may be shorter than the feature, and is padded with 0, a sequence in front; of a longer
    sequence the newest ids are kept.

    Raises:
        BadRequestError: If a value is of another form, an id outside its vocabulary, or a number not finite.
    """
    column = _array(feature, values)
    if feature.vocabulary is not None and len(values) and not 0 <= column.min() <= column.max() < feature.vocabulary:
        raise BadRequestError(f"feature {feature.name}: ids are in 0..{feature.vocabulary - 1}")
    with np.errstate(over="ignore"):
        column = column.astype(feature.dtype, copy=False)
    if feature.vocabulary is None and not np.isfinite(column).all():
        raise BadRequestError(f"feature {feature.name}: a number is not finite, or too large for {column.dtype}")
    return column


def _array(feature: Feature, values: Sequence[Any]) -> Array:
    if not isinstance(values, list):
        raise BadRequestError(f"feature {feature.name}: a list of values is expected, one for each sample")
    if feature.kind in (FeatureKind.MULTIVALUED, FeatureKind.SEQUENCE):
        values = [_padded(feature, value) for value in values]
    elif feature.kind is FeatureKind.DENSE and feature.length == 1:
        values = [value if isinstance(value, list) else [value] for value in values]
    try:
        column = np.array(values)
    except ValueError as error:  # ragged
        raise _misshapen(feature) from error
    shape = feature.shape(len(values))
    numbers = column.dtype.kind in ("iu" if feature.vocabulary is not None else "iuf")
    if len(values) == 0:
        return np.zeros(shape, feature.dtype)
    if not numbers or column.shape != shape or _any_truth(values):
        raise _misshapen(feature)
    return column


def _any_truth(values: Sequence[Any]) -> bool:
    """Whether there is a true or false, which numpy takes for a number among numbers."""
    flat = chain.from_iterable(values) if values and isinstance(values[0], list) else values
    return bool in set(map(type, flat))


def _padded(feature: Feature, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _misshapen(feature)
    missing = feature.length - len(value)
    if feature.kind is FeatureKind.SEQUENCE:
        return [0] * missing + value[-feature.length :]
    if missing < 0:
        raise BadRequestError(f"feature {feature.name}: {len(value)} ids, at most {feature.length} are read")
    return value + [0] * missing


def _misshapen(feature: Feature) -> BadRequestError:
    numbers = "number" if feature.vocabulary is None else "id"
    if feature.shape(1) == (1,):
        return BadRequestError(f"feature {feature.name}: one {numbers} a sample is expected")
    most = "exactly" if feature.kind is FeatureKind.DENSE else "at most"
    return BadRequestError(f"feature {feature.name}: a list of {most} {feature.length} {numbers}s a sample is expected")
