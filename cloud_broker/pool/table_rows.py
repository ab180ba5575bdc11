"""One sample as a row of a table: checked value by value, so that what is wrong with it can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloud_broker.pool.intake import MAX_TIME_S
from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema

CONTRIBUTOR, LABEL, TIME = "contributor", "label", "time_s"
_MAX_NAME = 128
_MAX_DENSE = float(np.finfo(np.float32).max)


def column_names(schema: FeatureSchema) -> list[str]:
    """The columns of a table of samples: whose, the features, label and time."""
    return [CONTRIBUTOR, *(feature.name for feature in schema.features), LABEL, TIME]


def checked(schema: FeatureSchema, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values as a batch has them.

    Args:
        schema: The features that it has to have.
        row: Values by column: numbers or text; a feature with several values is a list, or text parted by spaces.

    Raises:
        ValueError: If one is missing or does not fit; says which, and why.
    """
    values: dict[str, Any] = {CONTRIBUTOR: _name(row.get(CONTRIBUTOR))}
    for feature in schema.features:
        values[feature.name] = _of_feature(feature, row.get(feature.name))
    values[LABEL] = _number(LABEL, row.get(LABEL))
    if values[LABEL] not in (0.0, 1.0):
        raise ValueError(f"{LABEL}: must be 0 or 1, got {row.get(LABEL)!r}")
    time_s = _number(TIME, row.get(TIME))
    if not 0 <= time_s < MAX_TIME_S:
        raise ValueError(f"{TIME}: unix seconds are required, got {row.get(TIME)!r}")
    return {**values, TIME: int(time_s)}


def batch_of(schema: FeatureSchema, rows: Sequence[Mapping[str, Any]]) -> SampleBatch:
    """Checked rows as a batch."""
    features = {
        f.name: np.array([row[f.name] for row in rows], f.dtype).reshape(f.shape(len(rows))) for f in schema.features
    }
    labels = np.array([row[LABEL] for row in rows], np.float32)
    return SampleBatch(schema, features, labels, np.array([row[TIME] for row in rows], np.int64))


def _name(value: Any) -> str:
    """A contributor's name; numbers are names, too, but what stands for a missing one is not."""
    named = isinstance(value, (str, int)) or (isinstance(value, float) and np.isfinite(value))
    name = str(value).strip() if named else ""
    if not 1 <= len(name) <= _MAX_NAME:
        raise ValueError(f"{CONTRIBUTOR}: a name of 1 to {_MAX_NAME} characters is required, got {value!a:.40}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{CONTRIBUTOR}: {name!a} is not UTF-8") from None
    return name


def _of_feature(feature: Feature, value: Any) -> Any:
    if feature.kind is FeatureKind.CATEGORICAL:
        return _id(feature, value)
    parts = _parts(feature, value)
    if feature.kind is FeatureKind.DENSE:
        if len(parts) != feature.length:
            raise ValueError(f"{feature.name}: {feature.length} values are required, got {len(parts)}")
        return [_dense(feature, part) for part in parts]
    ids = [_id(feature, part) for part in parts]
    if len(ids) > feature.length:
        raise ValueError(f"{feature.name}: at most {feature.length} ids, got {len(ids)}")
    padding = [0] * (feature.length - len(ids))
    # A sequence is padded in front, so that its latest id stands last.
    return padding + ids if feature.kind is FeatureKind.SEQUENCE else ids + padding


def _parts(feature: Feature, value: Any) -> list[Any]:
    if isinstance(value, str):
        return value.split()
    if value is None or isinstance(value, list):
        return value or []
    raise ValueError(f"{feature.name}: a list, or text parted by spaces, is required, got {value!r:.80}")


def _dense(feature: Feature, value: Any) -> float:
    number = _number(feature.name, value)
    if abs(number) > _MAX_DENSE:
        raise ValueError(f"{feature.name}: no 32-bit number is as large as {value!r}")
    return number


def _id(feature: Feature, value: Any) -> int:
    number = _number(feature.name, value)
    if number != int(number) or not 0 <= number < (feature.vocabulary or 0):
        raise ValueError(
            f"{feature.name}: ids are whole numbers from 0 to {(feature.vocabulary or 1) - 1}, got {value!r}"
        )
    return int(number)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: a number is required, got {value!r}") from None
    if not np.isfinite(number):
        raise ValueError(f"{name}: a finite number is required, got {value!r}")
    return number
