"""Messages to bytes and back: a bounded msgpack envelope with a schema version.

``{"v": version, "k": kind, "id": message id, "b": body}``. Decoding checks every field's type against the message's class, so
what comes out is whole or does not come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import msgpack

from protocol.errors import MalformedMessageError, OversizeError, SchemaMismatchError
from protocol.messages import MESSAGES, Message
from protocol.topics import MAX_MESSAGE_BYTES, SCHEMA_VERSION, Direction

MAX_MESSAGE_ID_LENGTH = 64
_MAX_ITEMS = 4096
_MAX_DEPTH = 12


@dataclass(frozen=True)
class Envelope:
    """A decoded message and the id by which its effects happen once."""

    message_id: str
    message: Message


def encode(message: Message, message_id: str, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """The message's bytes.

    Raises:
        OversizeError: If they would exceed ``limit_bytes``; nothing is sent then.
    """
    body = {f.name: _to_plain(getattr(message, f.name)) for f in fields(message)}  # type: ignore[arg-type]
    envelope = {"v": SCHEMA_VERSION, "k": message.kind, "id": message_id, "b": body}
    payload: bytes = msgpack.packb(envelope, use_bin_type=True)
    if len(payload) > limit_bytes:
        raise OversizeError(f"message {message.kind}", len(payload), limit_bytes)
    return payload


def decode(direction: Direction, kind: str, payload: bytes, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> Envelope:
    """Read a message that arrived under ``kind``.

    Raises:
        OversizeError: If the payload is larger than ``limit_bytes``.
        SchemaMismatchError: If it is of another schema version.
        MalformedMessageError: If it is anything else than a whole message of that kind.
    """
    if len(payload) > limit_bytes:
        raise OversizeError(f"message {kind}", len(payload), limit_bytes)
    values = _unpack(kind, payload)
    version = values.get("v")
    if version != SCHEMA_VERSION:
        raise SchemaMismatchError(f"message {kind}: schema version {version!r}, this side speaks {SCHEMA_VERSION}")
    message_class = MESSAGES.get((direction, kind))
    message_id, body = values.get("id"), values.get("b")
    if message_class is None or values.get("k") != kind:
        raise MalformedMessageError(f"message under {direction}/{kind} says it is {str(values.get('k'))[:40]!r}")
    if not isinstance(message_id, str) or not 1 <= len(message_id) <= MAX_MESSAGE_ID_LENGTH:
        raise MalformedMessageError(f"message {kind}: an id of 1 to {MAX_MESSAGE_ID_LENGTH} characters is required")
    if not isinstance(body, dict):
        raise MalformedMessageError(f"message {kind}: no body")
    message: Message = _build(message_class, body, kind)
    return Envelope(message_id, message)


def _unpack(kind: str, payload: bytes) -> dict[str, Any]:
    # Lengths are bounded by the payload's own, so a tiny message cannot ask for a large allocation.
    bound = {"max_array_len": _MAX_ITEMS, "max_map_len": _MAX_ITEMS}
    try:
        values = msgpack.unpackb(payload, raw=False, strict_map_key=True, **bound)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise MalformedMessageError(f"message {kind}: not msgpack ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise MalformedMessageError(f"message {kind}: not a map")
    _check_depth(values, kind)
    return values


def _check_depth(values: object, kind: str) -> None:
    level, layer = 0, [values]
    while layer:
        level += 1
        if level > _MAX_DEPTH:
            raise MalformedMessageError(f"message {kind}: nested deeper than {_MAX_DEPTH}")
        containers = [value for value in layer if isinstance(value, (dict, list))]
        layer = [child for value in containers for child in (value.values() if isinstance(value, dict) else value)]


def _to_plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_plain(getattr(value, f.name)) for f in fields(value)}
    return list(value) if isinstance(value, tuple) else value


def _build(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    hints = _field_types(cls)
    if set(values) != set(hints):
        raise MalformedMessageError(f"message {where}: fields {sorted(map(str, values))}, expected {sorted(hints)}")
    return cls(**{name: _convert(values[name], hint, f"{where}.{name}") for name, hint in hints.items()})


@cache
def _field_types(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in get_args(hint):
            return None
        return _convert(value, next(arm for arm in get_args(hint) if arm is not NoneType), where)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(item, get_args(hint)[0], where) for item in value)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _build(hint, value, where)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if origin is dict and isinstance(value, dict):
        return value
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise MalformedMessageError(f"message {where}: a {type(value).__name__} where {hint} is expected")
