from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocol.envelope import decode, encode
from protocol.errors import MalformedMessageError, OversizeError
from protocol.messages import (
    MAX_RETRY_AFTER_S,
    MESSAGES,
    BlobRef,
    Busy,
    Chunk,
    Contribution,
    Match,
    Message,
    Pull,
    Query,
)  # fmt: skip
from protocol.topics import CHUNK_BYTES, MAX_BLOB_BYTES, MAX_CHUNK_BYTES, NAME_PATTERN

SHA = "0123456789abcdef" * 4
CENTROIDS = np.array([[1, 0, 0], [0, 0.5, -1]], "<f2")
QUERY = Query("q1", 1, SHA, 3, CENTROIDS.tobytes(), (0.75, 0.25), 2000, 1 << 19)


def test_every_message_is_registered_once() -> None:
    """Each message is found under its own direction and kind, and the kind can stand in a topic."""
    assert set(MESSAGES.values()) == set(Message.__subclasses__())
    for (direction, kind), message in MESSAGES.items():
        assert (message.direction, message.kind) == (direction, kind)
        assert NAME_PATTERN.fullmatch(kind)


def test_query_gives_its_profile_back() -> None:
    """The centroids come out as float32 rows."""
    profile = QUERY.profile()
    assert profile.dtype == np.float32
    np.testing.assert_array_equal(profile, CENTROIDS)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), MAX_RETRY_AFTER_S + 1])
def test_a_device_is_put_off_for_a_bounded_time(seconds: float) -> None:
    """No cloud can make a device wait for ever, or not at all."""
    with pytest.raises(MalformedMessageError, match="retry_after_s"):
        Busy("m1", seconds)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_sha256": "abc"}, "SHA-256"),
        ({"model_sha256": SHA.upper()}, "SHA-256"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 2}, "do not make"),
        ({"weights": ()}, "do not make"),
        ({"weights": (1.0,)}, "do not make"),
        ({"weights": (1.5, -0.5)}, "not negative"),
        ({"weights": (float("nan"), 1.0)}, "finite"),
        ({"weights": (1.0, 1.0)}, "sum to 1"),
        ({"centroids": np.full((2, 3), np.inf, "<f2").tobytes()}, "finite"),
        ({"max_samples": 0}, "positive"),
        ({"max_bytes": 0}, "positive"),
    ],
)
def test_bad_query_is_refused(changes: dict[str, object], says: str) -> None:
    """A profile that matching could not use never becomes a query."""
    with pytest.raises(MalformedMessageError, match=says):
        replace(QUERY, **changes)  # type: ignore[arg-type]


def test_profile_is_bounded() -> None:
    """A query holds a profile of at most 1 KB, so it cannot smuggle samples."""
    with pytest.raises(OversizeError):
        replace(QUERY, dimensions=300, centroids=bytes(1200))


def test_blob_is_bounded() -> None:
    """A blob has a digest and between one byte and the largest size."""
    assert BlobRef(SHA, MAX_BLOB_BYTES).size_bytes == MAX_BLOB_BYTES
    with pytest.raises(OversizeError):
        BlobRef(SHA, MAX_BLOB_BYTES + 1)
    with pytest.raises(MalformedMessageError, match="positive"):
        BlobRef(SHA, 0)
    with pytest.raises(MalformedMessageError, match="SHA-256"):
        BlobRef(SHA[:-1], 1)


@pytest.mark.parametrize("chunks", [(), (-1,), (MAX_BLOB_BYTES // CHUNK_BYTES,), tuple(range(65))])
def test_pull_is_bounded(chunks: tuple[int, ...]) -> None:
    """A pull asks for 1 to 64 chunks that the largest blob could have."""
    with pytest.raises(MalformedMessageError, match="1 to 64"):
        Pull(SHA, chunks)


def test_last_chunk_of_the_largest_blob_can_be_pulled() -> None:
    """The bound on indices is the largest blob's last chunk."""
    last = MAX_BLOB_BYTES // CHUNK_BYTES - 1
    assert Pull(SHA, (last,)).chunks == (last,)


def test_chunk_is_bounded() -> None:
    """A chunk holds at most 64 KiB."""
    with pytest.raises(OversizeError):
        Chunk(SHA, 0, 0, bytes(CHUNK_BYTES + 1))


@pytest.mark.parametrize(("count", "samples"), [(0, BlobRef(SHA, 1)), (1, None), (-1, BlobRef(SHA, 1))])
def test_match_has_samples_exactly_where_it_counts_some(count: int, samples: BlobRef | None) -> None:
    """An answer without samples names no blob, and one with samples does."""
    with pytest.raises(MalformedMessageError, match="do not go together"):
        Match("q1", count, samples)


def test_an_answer_and_its_samples_go_together() -> None:
    """Samples in the answer are as many bytes as it says; an asker takes no more of them than a chunk has."""
    assert Match("q", 1, BlobRef(SHA, 3), None, b"abc").data == b"abc"
    for blob, data in ((None, b"abc"), (BlobRef(SHA, 4), b"abc")):
        with pytest.raises(MalformedMessageError, match="match"):
            Match("q", int(blob is not None), blob, None, data)
    for inline_bytes in (-1, MAX_CHUNK_BYTES + 1):
        with pytest.raises(MalformedMessageError, match="inline_bytes"):
            replace(QUERY, inline_bytes=inline_bytes)


def test_a_peer_of_before_answers_held_samples_reads_what_it_knows() -> None:
    """What it does not know is not said to it: a query of its own, and an answer without samples, are as they were."""
    for message, later in (
        (QUERY, "inline_bytes"),
        (QUERY, "opinions"),
        (Contribution(b"samples"), "agreement"),
        (Match("q", 1, BlobRef(SHA, 3)), "data"),
    ):
        payload = encode(message, "m1")
        assert later.encode() not in payload
        assert decode(message.direction, message.kind, payload).message == message
    assert decode("up", "query", encode(replace(QUERY, inline_bytes=0), "m1")).message == replace(QUERY, inline_bytes=0)
