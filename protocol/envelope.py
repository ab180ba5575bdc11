"""Messages to bytes and back: a bounded msgpack envelope with a schema version.

``{"v": version, "k": kind, "id": message id, "b": body}``. Decoding checks every field's type against the message's
class, so what comes out is whole or does not come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, NamedTuple, Union, get_args, get_origin, get_type_hints

from protocol.errors import MalformedMessageError, OversizeError, SchemaMismatchError
from protocol.messages import MESSAGES, Message
from protocol.packing import pack, unpack
from protocol.topics import MAX_MESSAGE_BYTES, SCHEMA_VERSION, Direction

MAX_MESSAGE_ID_LENGTH = 64


@dataclass(frozen=True)
class Envelope:
    """A decoded message and the id by which its effects happen once."""

    message_id: str
    message: Message


def encode(message: Message, message_id: str, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """The message's bytes.

    Raises:
        OversizeError: If they would exceed ``limit_bytes``; nothing is sent then.
        MalformedMessageError: If the id is not one of 1 to ``MAX_MESSAGE_ID_LENGTH`` characters.
    """
    _check_id(message_id, message.kind)
    body = {f.name: _to_plain(getattr(message, f.name)) for f in fields(message)}  # type: ignore[arg-type]
    body = {name: value for name, value in body.items() if value is not None or name not in message.unsaid}
    payload = pack({"v": SCHEMA_VERSION, "k": message.kind, "id": message_id, "b": body})
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
    values = unpack(payload, f"message {kind}")
    version = values.get("v")
    if type(version) is not int or version != SCHEMA_VERSION:
        spoken = str(version)[:40]
        raise SchemaMismatchError(f"message {kind}: schema version {spoken!r}, this side speaks {SCHEMA_VERSION}")
    message_class = MESSAGES.get((direction, kind))
    if message_class is None or values.get("k") != kind:
        raise MalformedMessageError(f"message under {direction}/{kind} says it is {str(values.get('k'))[:40]!r}")
    message_id, body = _check_id(values.get("id"), kind), values.get("b")
    if not isinstance(body, dict):
        raise MalformedMessageError(f"message {kind}: no body")
    message: Message = _build(message_class, dict.fromkeys(message_class.unsaid) | body, kind)
    return Envelope(message_id, message)


def _check_id(message_id: object, kind: str) -> str:
    if not isinstance(message_id, str) or not 1 <= len(message_id) <= MAX_MESSAGE_ID_LENGTH:
        raise MalformedMessageError(f"message {kind}: an id of 1 to {MAX_MESSAGE_ID_LENGTH} characters is required")
    return message_id


def _to_plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_plain(getattr(value, f.name)) for f in fields(value)}
    return [_to_plain(item) for item in value] if isinstance(value, tuple) else value


class _Type(NamedTuple):
    """A field's type, taken apart: what is expected, whether None is too, and of what it is if it is a tuple."""

    plain: type
    may_be_none: bool
    item: _Type | None


def _build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    types = _field_types(cls)
    if values.keys() != types.keys():
        missing, unknown = sorted(set(types) - set(values)), str(sorted(set(values) - set(types)))[:80]
        raise MalformedMessageError(f"message {where}: missing fields {missing}, unknown fields {unknown}")
    return cls(**{name: _convert(values[name], expected, f"{where}.{name}") for name, expected in types.items()})


@cache
def _field_types(cls: type) -> dict[str, _Type]:
    hints = get_type_hints(cls)
    return {name: _taken_apart(hint) for name, hint in hints.items() if get_origin(hint) is not ClassVar}


def _taken_apart(hint: Any) -> _Type:
    arms = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    hint = next(arm for arm in arms if arm is not NoneType)  # a field is of one type, or of one type or None
    item = _taken_apart(get_args(hint)[0]) if get_origin(hint) is tuple else None
    return _Type(get_origin(hint) or hint, NoneType in arms, item)


def _convert(value: Any, expected: _Type, where: str) -> Any:
    if type(value) is expected.plain or (value is None and expected.may_be_none):
        return value
    if expected.item is not None and isinstance(value, list):
        item = expected.item
        return tuple([_convert(one, item, where) for one in value])
    if is_dataclass(expected.plain) and isinstance(value, dict):
        return _build(expected.plain, value, where)
    if expected.plain is float and type(value) is int:
        return float(value)
    raise MalformedMessageError(
        f"message {where}: a {type(value).__name__} where {expected.plain.__name__} is expected"
    )
