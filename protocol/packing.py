"""Plain values to msgpack and back, bounded: what comes out holds only None, numbers, text, bytes, lists and maps."""

from __future__ import annotations

from typing import Any

import msgpack

from protocol.errors import MalformedMessageError

MAX_ITEMS = 4096
MAX_DEPTH = 12
_LEAVES = frozenset({type(None), bool, int, float, str, bytes})


def pack(values: dict[str, Any]) -> bytes:
    """The bytes of a map of plain values."""
    packed: bytes = msgpack.packb(values, use_bin_type=True)
    return packed


def unpack(payload: bytes | memoryview, what: str) -> dict[str, Any]:
    """Read a map of plain values. ``what`` names it in errors.

    Raises:
        MalformedMessageError: If it is not msgpack, not a map, has keys that are not text, holds a value that is
            not plain, a container of more than ``MAX_ITEMS``, or is nested deeper than ``MAX_DEPTH``.
    """
    # Lengths are bounded by the payload's own, so a tiny message cannot ask for a large allocation.
    bounds = {"max_array_len": MAX_ITEMS, "max_map_len": MAX_ITEMS}
    try:
        values = msgpack.unpackb(payload, raw=False, strict_map_key=True, **bounds)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise MalformedMessageError(f"{what}: not msgpack ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise MalformedMessageError(f"{what}: not a map")
    _check_plain(values, what)
    return values


def _check_plain(values: dict[Any, Any], what: str) -> None:
    layer: list[Any] = [values]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for value in layer:
            if isinstance(value, list):
                deeper += value
            elif isinstance(value, dict):
                _check_keys(value, what)
                deeper += value.values()
            elif type(value) not in _LEAVES:
                raise MalformedMessageError(f"{what}: a value of the msgpack type {type(value).__name__}")
        if not deeper:
            return
        layer = deeper
    raise MalformedMessageError(f"{what}: nested deeper than {MAX_DEPTH}")


def _check_keys(values: dict[Any, Any], what: str) -> None:
    if not all(isinstance(key, str) for key in values):
        raise MalformedMessageError(f"{what}: a key that is not text")
