"""Strict conversion between frozen dataclasses of plain values and the dictionaries that JSON and msgpack carry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from profiling.errors import RecordError

T = TypeVar("T")


def build(cls: type[T], values: object, where: str) -> T:
    """Make ``cls`` from ``values``, whose keys must be its fields; one with a default may be absent.

    Raises:
        RecordError: If a field is missing, unknown, of another type, or not finite. The message names it.
    """
    if not isinstance(values, Mapping):
        raise RecordError(f"{where}: expected a map of fields, got {type(values).__name__}")
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(map(str, values)) - set(known))
    required = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    missing = sorted(required - set(values))
    if unknown or missing:
        raise RecordError(f"{where}: unknown fields {unknown}, missing fields {missing}")
    return cls(**{name: _convert(value, hints[name], f"{where}.{name}") for name, value in values.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    args = get_args(hint)
    if NoneType in args:
        return None if value is None else _convert(value, next(arm for arm in args if arm is not NoneType), where)
    origin = get_origin(hint)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(item, args[0], f"{where}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {_convert(k, args[0], where): _convert(v, args[1], f"{where}.{k}") for k, v in value.items()}
    if hasattr(hint, "__dataclass_fields__"):
        return build(hint, value, where)
    return value if hint is Any else _scalar(value, hint, where)


def _scalar(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise RecordError(f"{where}: {value} is not a finite number")
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise RecordError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r:.60}")
