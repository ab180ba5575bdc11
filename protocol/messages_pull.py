"""What a device says to have bytes moved: rows and blobs that it asks for, and what it offers to be collected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.columns import zstd_available
from protocol.digests import check_sha256
from protocol.errors import MalformedMessageError, OversizeError
from protocol.message import MAX_BASES, BlobRef, ChunkData, ChunkIndices, Message, check_chunk_bytes
from protocol.rows import MAX_SHARDS
from protocol.topics import CHUNK_BYTES, MAX_MESSAGE_BYTES, Direction


@dataclass(frozen=True)
class RowsRequest(Message):
    """Ask for rows of a table, by shard, so that the cloud learns a neighbourhood and not an item.

    Attributes:
        request_id: The device's name for it.
        version: Version of the rows, `protocol.rows.TableRows.version`.
        shards: Numbers of the shards, ascending: shard s has the ids from s * `ROWS_PER_SHARD` on.
        zstd: Whether the device can read zstd.
    """

    request_id: str
    version: str
    shards: tuple[int, ...]
    zstd: bool = field(default_factory=zstd_available)
    kind: ClassVar[str] = "rows"
    direction: ClassVar[Direction] = "up"

    def __post_init__(self) -> None:
        check_sha256(self.version, "rows: version")
        ascending = all(a < b for a, b in zip(self.shards, self.shards[1:], strict=False))
        if not 1 <= len(self.shards) <= MAX_SHARDS or not ascending or self.shards[0] < 0:
            raise MalformedMessageError(f"rows: 1 to {MAX_SHARDS} shard numbers in ascending order")


@dataclass(frozen=True)
class Locate(Message):
    """Ask where to have a published blob from, and how little of it has to travel.

    Attributes:
        blob: Its SHA-256.
        bases: Blobs that the device holds; the answer may be a patch over one of them.
        zstd: Whether the device can read zstd, which patches are made with.
    """

    blob: str
    bases: tuple[str, ...] = ()
    zstd: bool = field(default_factory=zstd_available)
    kind: ClassVar[str] = "locate"
    direction: ClassVar[Direction] = "up"

    def __post_init__(self) -> None:
        check_sha256(self.blob, "locate: blob")
        if len(self.bases) > MAX_BASES:
            raise MalformedMessageError(f"locate: {len(self.bases)} bases, at most {MAX_BASES} are read")
        for base in self.bases:
            check_sha256(base, "locate: base")


@dataclass(frozen=True)
class Pull(ChunkIndices, Message):
    """Ask for chunks of a blob, by index.

    Attributes:
        blob: Its SHA-256.
        chunks: Indices of chunks of ``chunk_bytes``.
        chunk_bytes: One of `CHUNK_SIZES`.
    """

    kind: ClassVar[str] = "pull"
    direction: ClassVar[Direction] = "up"


@dataclass(frozen=True)
class Offer(Message):
    """A message too large to be pushed over a slow line: the cloud collects it piece by piece.

    Its id is that of the message offered, which is acted on once all of it is there.

    Attributes:
        letter: The kind of the message.
        blob: Its encoded envelope.
        chunk_bytes: What to cut it by.
    """

    letter: str
    blob: BlobRef
    chunk_bytes: int = CHUNK_BYTES
    kind: ClassVar[str] = "offer"
    direction: ClassVar[Direction] = "up"

    def __post_init__(self) -> None:
        check_chunk_bytes(self.chunk_bytes, self.kind)
        if self.blob.size_bytes > MAX_MESSAGE_BYTES:
            raise OversizeError("offer", self.blob.size_bytes, MAX_MESSAGE_BYTES)


@dataclass(frozen=True)
class Piece(ChunkData, Message):
    """One chunk of what a device offered; as `Chunk`."""

    kind: ClassVar[str] = "piece"
    direction: ClassVar[Direction] = "up"
