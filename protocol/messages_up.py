"""What a device says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from protocol.columns import zstd_available
from protocol.digests import check_sha256
from protocol.errors import MalformedMessageError, OversizeError
from protocol.message import MAX_TARGET_LENGTH, Message
from protocol.opinions import unpack_opinions
from protocol.topics import (
    MAX_CHUNK_BYTES,
    MAX_PROFILE_BYTES,
    Direction,
)


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
        inline_bytes: Samples of at most so many bytes may come in the answer itself; None where the device knows no
            such answers.
        opinions: What the device says of items, as `protocol.opinions` packs it; None where its owner does not allow
            that, or the task does not ask for it.
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
    inline_bytes: int | None = None
    opinions: bytes | None = None
    kind: ClassVar[str] = "query"
    direction: ClassVar[Direction] = "up"
    unsaid: ClassVar[frozenset[str]] = frozenset({"inline_bytes", "opinions"})

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
        if not 0 <= (self.inline_bytes or 0) <= MAX_CHUNK_BYTES:
            raise MalformedMessageError(f"query: inline_bytes lies in 0..{MAX_CHUNK_BYTES}")
        if self.opinions is not None:
            unpack_opinions(self.opinions)

    def profile(self) -> NDArray[np.float32]:
        """The centroids as float32 [k, d]."""
        return np.frombuffer(self.centroids, "<f2").reshape(-1, self.dimensions).astype(np.float32)


@dataclass(frozen=True)
class Contribution(Message):
    """Samples that a device gives to the pool (opt-in).

    Attributes:
        samples: Encoded by `protocol.batch_codec`.
        agreement: Whether the cloud may compare what this device likes, by all that it gave, with what another device
            says of items; None for no.
    """

    samples: bytes
    agreement: bool | None = None
    kind: ClassVar[str] = "contribution"
    direction: ClassVar[Direction] = "up"
    unsaid: ClassVar[frozenset[str]] = frozenset({"agreement"})


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
