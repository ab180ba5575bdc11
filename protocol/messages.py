"""The messages, one class each, and the kind that each travels under.

A device says (``up``): Presence, Hello, Query, RowsRequest, Locate, Pull, Contribution, Forget, Report, Log, Offer,
Piece, Updated.
The cloud says (``down``): Task, Release, Match, Rows, Located, Chunk, Accepted, Refusal, Busy, Collect, LogRequest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from protocol.columns import zstd_available
from protocol.digests import check_sha256
from protocol.errors import MalformedMessageError, OversizeError
from protocol.rows import MAX_SHARDS, TableRows
from protocol.topics import (
    CHUNK_BYTES,
    CHUNK_SIZES,
    MAX_BLOB_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PROFILE_BYTES,
    Direction,
)


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


MAX_PULL_CHUNKS = 64
MAX_BASES = 8


def _check_chunk_bytes(chunk_bytes: int, what: str) -> None:
    if chunk_bytes not in CHUNK_SIZES:
        raise MalformedMessageError(f"{what}: chunks of {chunk_bytes} bytes, not one of {CHUNK_SIZES}")


class Message:
    """Base of all messages; a subclass is a frozen dataclass and states its kind and direction."""

    kind: ClassVar[str]
    direction: ClassVar[Direction]


@dataclass(frozen=True)
class Presence(Message):
    """Retained; the last will says ``online=False``."""

    online: bool
    kind: ClassVar[str] = "presence"
    direction: ClassVar[Direction] = "up"


@dataclass(frozen=True)
class Hello(Message):
    """What a device is and holds. ``models`` are the SHA-256 digests of the model files on its disk."""

    software: str
    runtime: str
    board: str
    models: tuple[str, ...]
    kind: ClassVar[str] = "hello"
    direction: ClassVar[Direction] = "up"


@dataclass(frozen=True)
class Query(Message):
    """A matching query: a profile of the device's samples, never the samples.

    Attributes:
        query_id: The device's name for it; a repeated query is answered alike.
        task_version: The task it belongs to.
        model_sha256: The recommender whose `embed` signature made the centroids.
        dimensions: d, the width of a centroid.
        centroids: float16, little-endian, [k, d] row by row.
        weights: Share of the device's samples near each centroid, [k], summing to 1.
        max_samples: At most so many matched samples.
        max_bytes: At most so many encoded bytes.
        zstd: Whether the device can read zstd (32-bit ARM cannot); the answer is packed accordingly.
    """

    query_id: str
    task_version: int
    model_sha256: str
    dimensions: int
    centroids: bytes
    weights: tuple[float, ...]
    max_samples: int
    max_bytes: int
    zstd: bool = field(default_factory=zstd_available)
    kind: ClassVar[str] = "query"
    direction: ClassVar[Direction] = "up"

    def __post_init__(self) -> None:
        check_sha256(self.model_sha256, "query: model")
        if len(self.centroids) > MAX_PROFILE_BYTES:
            raise OversizeError("query: profile", len(self.centroids), MAX_PROFILE_BYTES)
        if self.dimensions < 1 or len(self.centroids) != 2 * self.dimensions * len(self.weights) or not self.weights:
            raise MalformedMessageError(
                f"query: {len(self.weights)} weights and {len(self.centroids)} bytes do not make "
                f"centroids of {self.dimensions} dimensions"
            )
        if not np.isfinite(self.profile()).all() or not np.isfinite(self.weights).all() or min(self.weights) < 0:
            raise MalformedMessageError("query: centroids and weights must be finite, weights not negative")
        if abs(sum(self.weights) - 1) > 1e-3:
            raise MalformedMessageError(f"query: weights are shares and sum to 1, not to {sum(self.weights):g}")
        if self.max_samples < 1 or self.max_bytes < 1:
            raise MalformedMessageError("query: max_samples and max_bytes must be positive")

    def profile(self) -> NDArray[np.float32]:
        """The centroids as float32 [k, d]."""
        return np.frombuffer(self.centroids, "<f2").reshape(-1, self.dimensions).astype(np.float32)


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
class _ChunkIndices:
    blob: str
    chunks: tuple[int, ...]
    chunk_bytes: int = CHUNK_BYTES

    def __post_init__(self) -> None:
        check_sha256(self.blob, "pull: blob")
        _check_chunk_bytes(self.chunk_bytes, "pull")
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
        _check_chunk_bytes(self.chunk_bytes, "chunk")
        if len(self.data) > self.chunk_bytes:
            raise OversizeError("chunk", len(self.data), self.chunk_bytes)


@dataclass(frozen=True)
class Pull(_ChunkIndices, Message):
    """Ask for chunks of a blob, by index.

    Attributes:
        blob: Its SHA-256.
        chunks: Indices of chunks of ``chunk_bytes``.
        chunk_bytes: One of `CHUNK_SIZES`.
    """

    kind: ClassVar[str] = "pull"
    direction: ClassVar[Direction] = "up"


@dataclass(frozen=True)
class Contribution(Message):
    """Samples that a device gives to the pool (opt-in), encoded by `protocol.batch_codec`."""

    samples: bytes
    kind: ClassVar[str] = "contribution"
    direction: ClassVar[Direction] = "up"


@dataclass(frozen=True)
class Forget(Message):
    """Ask for everything that this device ever contributed to be deleted from the pool."""

    kind: ClassVar[str] = "forget"
    direction: ClassVar[Direction] = "up"


@dataclass(frozen=True)
class Report(Message):
    """What a round did and cost: a RoundRecord of `profiling.record` as plain values."""

    round_id: str
    task_version: int
    record: dict[str, Any]
    kind: ClassVar[str] = "report"
    direction: ClassVar[Direction] = "up"


@dataclass(frozen=True)
class Log(Message):
    """What happened on a device lately, as `LogRequest` asked.

    Attributes:
        request_id: The request's.
        data: Lines of JSON, the newest last, packed with zlib.
    """

    request_id: str
    data: bytes
    kind: ClassVar[str] = "log"
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
        _check_chunk_bytes(self.chunk_bytes, self.kind)
        if self.blob.size_bytes > MAX_MESSAGE_BYTES:
            raise OversizeError("offer", self.blob.size_bytes, MAX_MESSAGE_BYTES)


@dataclass(frozen=True)
class Piece(ChunkData, Message):
    """One chunk of what a device offered; as `Chunk`."""

    kind: ClassVar[str] = "piece"
    direction: ClassVar[Direction] = "up"


MAX_TARGET_LENGTH = 128
MAX_REASON_LENGTH = 2000


@dataclass(frozen=True)
class Updated(Message):
    """What came of a release that the cloud offered.

    Attributes:
        offer: The offer's number.
        target: What was offered.
        outcome: One of `protocol.releases.OUTCOMES`; another is a newer device's.
        reason: Why, for the operator.
        running: Version of the software that runs now.
    """

    offer: int
    target: str
    outcome: str
    reason: str
    running: str
    kind: ClassVar[str] = "updated"
    direction: ClassVar[Direction] = "up"

    def __post_init__(self) -> None:
        for text, most in (
            (self.target, MAX_TARGET_LENGTH),
            (self.outcome, MAX_TARGET_LENGTH),
            (self.running, MAX_TARGET_LENGTH),
            (self.reason, MAX_REASON_LENGTH),
        ):
            if len(text) > most:
                raise OversizeError("updated: a text", len(text), most)


@dataclass(frozen=True)
class Release(Message):
    """Which release of the software a device should run; retained. What counts is what the signed metadata say of it.

    Attributes:
        offer: Rises with every change.
        target: Name of the bundle in the metadata; None where nothing is offered, or no more.
        metadata: Where the metadata are, as `protocol.releases.pack_metadata` packs them; None with ``target``.
    """

    offer: int
    target: str | None
    metadata: BlobRef | None
    kind: ClassVar[str] = "release"
    direction: ClassVar[Direction] = "down"

    def __post_init__(self) -> None:
        if (self.target is None) != (self.metadata is None):
            raise MalformedMessageError("release: a target and its metadata go together")
        if self.target is not None and not 1 <= len(self.target) <= MAX_TARGET_LENGTH:
            raise MalformedMessageError(f"release: a target's name has 1 to {MAX_TARGET_LENGTH} characters")


@dataclass(frozen=True)
class Task(Message):
    """What a device is asked to do; retained, so a device that wakes up finds it.

    Attributes:
        version: Rises with every change; a device does a version once.
        features: The feature schema, as `FeatureSchema.to_dict` gives it.
        recipe: Hyper-parameters, as `Recipe.to_dict` gives them.
        recommender: h0's file.
        classifier: The sample classifier's file.
        rows: The table of which the recommender's file holds no rows; None where the file holds everything.
    """

    version: int
    features: dict[str, Any]
    recipe: dict[str, Any]
    recommender: BlobRef
    classifier: BlobRef
    rows: TableRows | None = None
    kind: ClassVar[str] = "task"
    direction: ClassVar[Direction] = "down"


@dataclass(frozen=True)
class Match(Message):
    """The answer to a query.

    Attributes:
        query_id: The query's.
        count: Matched samples.
        samples: Where they are; None where there are none.
        rows: Where the rows of their items are, a `protocol.rows.RowBlock`; None where the model's file holds them.
    """

    query_id: str
    count: int
    samples: BlobRef | None
    rows: BlobRef | None = None
    kind: ClassVar[str] = "match"
    direction: ClassVar[Direction] = "down"

    def __post_init__(self) -> None:
        if self.count < 0 or (self.count == 0) != (self.samples is None):
            raise MalformedMessageError(
                f"match: {self.count} samples and {self.samples or 'no blob'} do not go together"
            )


@dataclass(frozen=True)
class Rows(Message):
    """The answer to a request for rows: where they are, a `protocol.rows.RowBlock`."""

    request_id: str
    rows: BlobRef
    kind: ClassVar[str] = "rows"
    direction: ClassVar[Direction] = "down"


@dataclass(frozen=True)
class Chunk(ChunkData, Message):
    """One chunk of a blob, its CRC-32, and the size that the blob is cut by."""

    kind: ClassVar[str] = "chunk"
    direction: ClassVar[Direction] = "down"


@dataclass(frozen=True)
class Patch:
    """What turns a blob that the device holds into the one it wants; see `protocol.patch`.

    Attributes:
        base: The SHA-256 of the blob to be patched.
        blob: The patch.
        shared: Whether its chunks lie on shared topics.
    """

    base: str
    blob: BlobRef
    shared: bool

    def __post_init__(self) -> None:
        check_sha256(self.base, "patch: base")


@dataclass(frozen=True)
class Located(Message):
    """Where to have a blob from.

    Attributes:
        blob: Its SHA-256.
        shared: Whether its chunks of `CHUNK_BYTES` lie on shared topics; where not, they are pulled.
        patch: A shorter way; None where there is none.
    """

    blob: str
    shared: bool
    patch: Patch | None = None
    kind: ClassVar[str] = "located"
    direction: ClassVar[Direction] = "down"

    def __post_init__(self) -> None:
        check_sha256(self.blob, "located: blob")


@dataclass(frozen=True)
class Collect(_ChunkIndices, Message):
    """Ask for chunks of what a device offered; as `Pull`."""

    kind: ClassVar[str] = "collect"
    direction: ClassVar[Direction] = "down"


@dataclass(frozen=True)
class LogRequest(Message):
    """Ask a device what happened lately."""

    request_id: str
    max_bytes: int
    kind: ClassVar[str] = "log-request"
    direction: ClassVar[Direction] = "down"


@dataclass(frozen=True)
class Accepted(Message):
    """The message named is on the cloud's disk."""

    message_id: str
    kind: ClassVar[str] = "accepted"
    direction: ClassVar[Direction] = "down"


class RefusalCode(str, Enum):
    """Why the cloud did not do what was asked."""

    SCHEMA = "schema"  # another schema version, or other features
    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    UNKNOWN_BLOB = "unknown-blob"
    UNKNOWN_MODEL = "unknown-model"
    INTERNAL = "internal"
    BUSY = "busy"  # what a device says of itself when it was put off too long; see `Busy`


@dataclass(frozen=True)
class Refusal(Message):
    """The message named was not acted on. ``detail`` is for the operator and holds no internals."""

    message_id: str
    code: str
    detail: str
    kind: ClassVar[str] = "refusal"
    direction: ClassVar[Direction] = "down"


MAX_RETRY_AFTER_S = 3600.0


@dataclass(frozen=True)
class Busy(Message):
    """The cloud has too much to do: the message named was not acted on, and is to be said again.

    A device that does not know this kind leaves it behind, and says its message again after a silence.

    Attributes:
        message_id: The message's.
        retry_after_s: Seconds to wait before; whoever waits adds a part of it by chance.
    """

    message_id: str
    retry_after_s: float
    kind: ClassVar[str] = "busy"
    direction: ClassVar[Direction] = "down"

    def __post_init__(self) -> None:
        if not 0 < self.retry_after_s <= MAX_RETRY_AFTER_S:
            raise MalformedMessageError(
                f"busy: retry_after_s must lie above 0 and up to {MAX_RETRY_AFTER_S:g}, got {self.retry_after_s}"
            )


MESSAGES: dict[tuple[Direction, str], type[Message]] = {
    (message.direction, message.kind): message
    for message in (
        Presence, Hello, Query, RowsRequest, Locate, Pull, Contribution, Forget, Report, Log, Offer, Piece,
        Updated, Release, Task, Match, Rows, Located, Chunk, Accepted, Refusal, Busy, Collect,
        LogRequest,
    )
}  # fmt: skip
