"""What messages are made of: the base class, the name of a blob, and its chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from protocol.digests import check_sha256
from protocol.errors import MalformedMessageError, OversizeError
from protocol.topics import (
    CHUNK_BYTES,
    CHUNK_SIZES,
    MAX_BLOB_BYTES,
    Direction,
)

MAX_PULL_CHUNKS = 64
MAX_BASES = 8
MAX_TARGET_LENGTH = 128  # of a release's target


@dataclass(frozen=True)
class BlobRef:
    """A blob by its content: what to ask for, and how to know it has arrived whole."""

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        check_sha256(self.sha256, "blob")
        if self.size_bytes < 1:
            raise MalformedMessageError(f"blob {self.sha256[:12]}: size must be positive, got {self.size_bytes}")
        if self.size_bytes > MAX_BLOB_BYTES:
            raise OversizeError(f"blob {self.sha256[:12]}", self.size_bytes, MAX_BLOB_BYTES)


def check_chunk_bytes(chunk_bytes: int, what: str) -> None:
    """See that chunks have a size that the wire knows.

    Raises:
        MalformedMessageError: If not; ``what`` says whose.
    """
    if chunk_bytes not in CHUNK_SIZES:
        raise MalformedMessageError(f"{what}: chunks of {chunk_bytes} bytes, not one of {CHUNK_SIZES}")


class Message:
    """Base of all messages; a subclass is a frozen dataclass and states its kind and direction.

    Attributes:
        unsaid: Fields that are left out where they are None, so that peers of before they were there read the rest.
    """

    kind: ClassVar[str]
    direction: ClassVar[Direction]
    unsaid: ClassVar[frozenset[str]] = frozenset()


@dataclass(frozen=True)
class ChunkIndices:
    """Chunks of a blob, by number; what both ways of asking for them share."""

    blob: str
    chunks: tuple[int, ...]
    chunk_bytes: int = CHUNK_BYTES

    def __post_init__(self) -> None:
        check_sha256(self.blob, "pull: blob")
        check_chunk_bytes(self.chunk_bytes, "pull")
        most = MAX_BLOB_BYTES // self.chunk_bytes
        if not 1 <= len(self.chunks) <= MAX_PULL_CHUNKS or min(self.chunks) < 0 or max(self.chunks) >= most:
            raise MalformedMessageError(f"pull: 1 to {MAX_PULL_CHUNKS} chunk indices within the largest blob are read")


@dataclass(frozen=True)
class ChunkData:
    """What `Chunk` and `Piece` hold."""

    blob: str
    index: int
    crc32: int
    data: bytes
    chunk_bytes: int = CHUNK_BYTES

    def __post_init__(self) -> None:
        check_sha256(self.blob, "chunk: blob")
        check_chunk_bytes(self.chunk_bytes, "chunk")
        if len(self.data) > self.chunk_bytes:
            raise OversizeError("chunk", len(self.data), self.chunk_bytes)
