"""What the cloud says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from protocol.digests import check_sha256
from protocol.errors import MalformedMessageError
from protocol.message import MAX_TARGET_LENGTH, BlobRef, ChunkData, ChunkIndices, Message
from protocol.rows import TableRows
from protocol.task_policy import check_task_policy
from protocol.topics import (
    Direction,
)


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
        policy: What must be so before the round begins, beside what the device's owner asks; see
            `protocol.task_policy`. None for nothing, and such a task is read by devices that know no policy too.
    """

    version: int
    features: dict[str, Any]
    recipe: dict[str, Any]
    recommender: BlobRef
    classifier: BlobRef
    rows: TableRows | None = None
    policy: dict[str, Any] | None = None
    kind: ClassVar[str] = "task"
    direction: ClassVar[Direction] = "down"
    unsaid: ClassVar[frozenset[str]] = frozenset({"policy"})

    def __post_init__(self) -> None:
        if self.policy is not None:
            check_task_policy(self.policy)


@dataclass(frozen=True)
class Match(Message):
    """The answer to a query.

    Attributes:
        query_id: The query's.
        count: Matched samples.
        samples: Where they are; None where there are none.
        rows: Where the rows of their items are, a `protocol.rows.RowBlock`; None where the model's file holds them.
        data: The samples themselves, where the query asked for them so; then they are not to be pulled.
    """

    query_id: str
    count: int
    samples: BlobRef | None
    rows: BlobRef | None = None
    data: bytes | None = None
    kind: ClassVar[str] = "match"
    direction: ClassVar[Direction] = "down"
    unsaid: ClassVar[frozenset[str]] = frozenset({"data"})

    def __post_init__(self) -> None:
        if self.count < 0 or (self.count == 0) != (self.samples is None):
            raise MalformedMessageError(
                f"match: {self.count} samples and {self.samples or 'no blob'} do not go together"
            )
        if self.data is not None and (self.samples is None or len(self.data) != self.samples.size_bytes):
            raise MalformedMessageError(f"match: {len(self.data)} bytes of samples are not {self.samples or 'none'}")


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
class Collect(ChunkIndices, Message):
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
