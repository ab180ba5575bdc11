"""What can go wrong with a message, drawn as a tree.

::

    ProtocolError
    ├── SchemaMismatchError      the peer speaks another version, or samples have other features
    ├── MalformedMessageError    not a message: bad msgpack, missing or mistyped fields, a bad topic
    ├── OversizeError            larger than a stated bound, compressed or decompressed
    ├── UnsupportedCodecError    well formed, but compressed by a codec that this machine lacks
    └── IntegrityError           a checksum or digest does not match
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Root of every error that the contract raises. Its text is safe to show to the peer."""


class SchemaMismatchError(ProtocolError):
    """The peer's schema version, or the features of its samples, are not ours."""


class MalformedMessageError(ProtocolError):
    """The bytes or the topic do not form a message of the contract."""


class OversizeError(ProtocolError):
    """A payload exceeds a stated bound; nothing of it was used.

    Attributes:
        size_bytes: What the payload has, or declares.
        limit_bytes: The bound.
    """

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"{what}: {size_bytes} bytes exceed the limit of {limit_bytes} bytes")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class UnsupportedCodecError(ProtocolError):
    """The bytes are compressed by a codec that is not installed here."""


class IntegrityError(ProtocolError):
    """A checksum or digest does not match its bytes."""
