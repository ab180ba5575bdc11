"""The compact layout: histories that share sequences, and peers that lie about them."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol import batch_codec
from protocol.batch_codec import COMPACT_MAGIC, decode_batch, encode_batch
from protocol.compact import read_samples, write_samples
from protocol.errors import MalformedMessageError, OversizeError, ProtocolError
from protocol.packing import pack
from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema
from protocol.streams import StreamReader, StreamWriter
from protocol.windows import find_shared, lay_out
from tests.protocol.strategies import PROPERTY, batches

LENGTH = 6
VOCABULARY = 50
SCHEMA = FeatureSchema(
    (
        Feature("item", FeatureKind.CATEGORICAL, 1, VOCABULARY, "item"),
        Feature("genres", FeatureKind.MULTIVALUED, 3, 20, "genre"),
        Feature("price", FeatureKind.DENSE, 2),
        Feature("liked", FeatureKind.SEQUENCE, LENGTH, VOCABULARY, "item"),
        Feature("seen", FeatureKind.SEQUENCE, LENGTH, VOCABULARY, "item"),
    )
)


def _user(rng: np.random.Generator, events: int) -> SampleBatch:
    """One user's samples: at each event, windows over what was liked and seen before it."""
    items = rng.integers(1, VOCABULARY, events).astype(np.int32)
    liked = rng.random(events) < 0.5

    def window(rows: NDArray[np.bool_], at: int) -> NDArray[np.int32]:
        before = items[:at][rows[:at]][-LENGTH:]
        return np.concatenate([np.zeros(LENGTH - len(before), np.int32), before])

    features = {
        "item": items,
        "genres": np.stack([items % 20, items % 7, np.zeros_like(items)], axis=1).astype(np.int32),
        "price": np.stack([items / 4, items / -8], axis=1).astype(np.float32),
        "liked": np.stack([window(liked, at) for at in range(events)]),
        "seen": np.stack([window(np.ones(events, np.bool_), at) for at in range(events)]),
    }
    time_s = np.cumsum(rng.integers(0, 1000, events)) + 1_600_000_000
    return SampleBatch(SCHEMA, features, liked.astype(np.float32), time_s.astype(np.int64))


@st.composite
def histories(draw: st.DrawFn) -> SampleBatch:
    """Some samples of some users, shuffled or not."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    users = [_user(rng, int(events)) for events in rng.integers(1, 30, draw(st.integers(1, 4)))]
    columns = {name: np.concatenate([user.features[name] for user in users]) for name in users[0].features}
    label, time_s = (np.concatenate([getattr(user, name) for user in users]) for name in ("label", "time_s"))
    whole = SampleBatch(SCHEMA, columns, label, time_s)
    rows = np.flatnonzero(rng.random(len(whole)) < draw(st.sampled_from([0.2, 0.7, 1.0])))
    return whole.take(rng.permutation(rows) if draw(st.booleans()) else rows)


def _bytes(batch: SampleBatch) -> list[bytes]:
    """Each sample's bytes."""
    return [b"".join(array[row].tobytes() for _, array in batch.columns()) for row in range(len(batch))]


def _compact(batch: SampleBatch, *, zstd: bool = True, keep_order: bool = True) -> SampleBatch:
    writer = StreamWriter(zstd=zstd)
    write_samples(batch, writer, keep_order=keep_order)
    reader = StreamReader(writer.sizes, memoryview(writer.body()))
    back = read_samples(reader, batch.schema, len(batch))
    reader.end()
    return back


@settings(PROPERTY, max_examples=150)
@given(histories(), st.booleans())
def test_windows_come_back_in_order(batch: SampleBatch, zstd: bool) -> None:
    """Every bit and the order of the samples survive, whether they lie by user or not."""
    assert _bytes(_compact(batch, zstd=zstd)) == _bytes(batch)


@settings(PROPERTY, max_examples=60)
@given(histories())
def test_order_may_be_given_up(batch: SampleBatch) -> None:
    """Where the caller allows another order the samples are the same ones."""
    assert sorted(_bytes(_compact(batch, keep_order=False))) == sorted(_bytes(batch))


@settings(PROPERTY, max_examples=150)
@given(batches())
def test_any_batch_comes_back(batch: SampleBatch) -> None:
    """Schemas without sequences, ids without overlap, extreme times and no samples at all."""
    assert _bytes(_compact(batch)) == _bytes(batch)


def test_a_window_sliding_over_one_sequence_shares_it() -> None:
    """A hundred windows of one history put it on the tape once."""
    history = np.random.default_rng(2).permutation(105).astype(np.int32) + 1
    rows = np.lib.stride_tricks.sliding_window_view(history, LENGTH).copy()
    windows = lay_out(rows, find_shared(rows, np.arange(len(rows))))
    assert windows.tape.tolist() == history.tolist()
    assert set(windows.sequence.tolist()) == {0}
    assert (windows.rows(LENGTH) == rows).all()


def test_samples_of_few_users_are_a_fraction_of_the_plain_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the layout is for: histories that overlap cost less than half."""
    batch = _user(np.random.default_rng(1), 400)
    compact = encode_batch(batch)
    monkeypatch.setattr(batch_codec, "MAX_COMPACT_BYTES", 0)
    assert len(compact) < 0.5 * len(encode_batch(batch))


def test_large_batches_travel_plain_and_no_reader_is_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the compact layout takes several times its columns, so both sides bound these."""
    batch = _user(np.random.default_rng(1), 100)
    compact = encode_batch(batch)
    assert compact.startswith(COMPACT_MAGIC)
    monkeypatch.setattr(batch_codec, "MAX_COMPACT_BYTES", 1000)
    assert not encode_batch(batch).startswith(COMPACT_MAGIC)
    with pytest.raises(OversizeError, match="compact batch of 100 samples"):
        decode_batch(compact, SCHEMA)


NARROW = FeatureSchema((Feature("seen", FeatureKind.SEQUENCE, 4, 100, "item"),))
_TWO_ROWS: dict[str, Any] = {
    "tokens": [1, 0],  # a new sequence, and the same again
    "ends": [2 - 4, 1],  # 2 ids, then one more
    "sizes": [3, 1],  # 3 different ids, in one class
    "gaps": [5, 0, 0],  # the ids 5, 6, 7
    "buckets": [0, 0, 1],  # of the buckets of 2 and 1
    "binary": [1],
}


def _forge(**change: Any) -> bytes:
    """The streams of two rows, [0, 0, 5, 6] and [0, 5, 6, 7], but for what is changed."""
    streams, writer = {**_TWO_ROWS, **change}, StreamWriter(zstd=True)
    writer.numbers(np.array(streams["tokens"], np.uint64))
    writer.signed(np.array(streams["ends"], np.int64))
    writer.numbers(np.array(streams["sizes"], np.uint64))
    writer.numbers(np.array(streams["gaps"], np.uint64))
    widths = np.array([1] + [0] * 255)
    buckets = np.array(streams["buckets"], np.uint8)
    writer.classified(buckets, np.arange(len(buckets), dtype=np.uint64), widths)
    writer.numbers(np.array(streams["binary"], np.uint64))
    writer.column(np.array([255], np.uint8))
    writer.signed(np.array([7, 1], np.int64))
    return _framed(NARROW, 2, writer.sizes, writer.body())


def _framed(schema: FeatureSchema, samples: int, sizes: object, body: bytes) -> bytes:
    header = pack({"schema": schema.digest, "samples": samples, "streams": sizes, "crc32": zlib.crc32(body)})
    return COMPACT_MAGIC + struct.pack("<I", len(header)) + header + body


def test_forged_streams_without_a_change_are_good() -> None:
    """The forger writes the documented layout, so what follows is refused for what it changes."""
    batch = decode_batch(_forge(), NARROW)
    assert batch.features["seen"].tolist() == [[0, 0, 5, 6], [0, 5, 6, 7]]
    assert batch.time_s.tolist() == [7, 8]


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": [0, 1]},  # the same as nothing
        {"tokens": [1, 9]},  # a sequence long before the first
        {"tokens": [1, 1 << 63]},
        {"tokens": [1]},  # too few
        {"ends": [2 - 4, 8]},  # more ids than two rows can hold
        {"ends": [2 - 4, -2]},  # before the sequence's begin
        {"ends": [1 << 62, 1 << 62]},  # a sum that would overflow
        {"ends": [-(1 << 63), 0]},
        {"sizes": [3, 0]},
        {"sizes": [3, 37]},
        {"sizes": [1 << 40, 1]},
        {"sizes": [1 << 63, 1 << 63]},
        {"gaps": [5, 0, 99]},  # beyond the vocabulary
        {"gaps": [5, 1 << 62, 1 << 62]},
        {"buckets": [0, 0, 2]},
        {"buckets": [0, 0, 255]},
        {"buckets": [0, 0, 1, 1]},
        {"binary": [0]},  # a label of one byte
    ],
)
def test_hostile_streams_are_refused(change: dict[str, Any]) -> None:
    """No number in a stream is believed."""
    with pytest.raises(ProtocolError):
        decode_batch(_forge(**change), NARROW)


@pytest.mark.parametrize("sizes", [None, {}, [0], [0, -1], [0, 1 << 40], ["zstd", 1], [[0, 1]], [], [7, 1] * 9])
def test_hostile_sizes_are_refused(sizes: object) -> None:
    """Nor is the header."""
    with pytest.raises(MalformedMessageError):
        decode_batch(_framed(NARROW, 2, sizes, bytes(40)), NARROW)


def test_a_bomb_takes_no_more_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes that stand for as many ids as may be cost a small multiple of the bound, not more."""
    monkeypatch.setattr(batch_codec, "MAX_COMPACT_BYTES", 1 << 20)
    samples = (1 << 20) // 32
    rows = np.tile(np.arange(1, 5, dtype=np.int32), (samples, 1))
    rows[:, 0] = np.arange(samples) % 97 + 1  # no two overlap
    batch = SampleBatch(NARROW, {"seen": rows}, np.ones(samples, np.float32), np.zeros(samples, np.int64))
    payload = encode_batch(batch)
    tracemalloc.start()
    try:
        decode_batch(payload, NARROW)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_damage_is_seen() -> None:
    """Packed bits have no other check: any changed byte of the body is noticed."""
    payload = bytearray(encode_batch(_user(np.random.default_rng(3), 70)))
    payload[-1] ^= 1
    with pytest.raises(MalformedMessageError, match="not those that were written"):
        decode_batch(bytes(payload), SCHEMA)


@settings(PROPERTY, max_examples=250)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_mutation_decodes_or_is_refused(edits: list[tuple[int, int]]) -> None:
    """Nothing but a ProtocolError escapes, and what decodes is a batch that could be sent again."""
    body = bytearray(_MUTATED.body())
    for position, byte in edits:
        body[position % len(body)] = byte
    try:
        batch = decode_batch(_framed(SCHEMA, 70, _MUTATED.sizes, bytes(body)), SCHEMA)
    except ProtocolError:
        return
    assert _bytes(decode_batch(encode_batch(batch), SCHEMA)) == _bytes(batch)


@settings(PROPERTY, max_examples=150)
@given(st.data())
def test_any_streams_decode_or_are_refused(data: st.DataObject) -> None:
    """Streams that unpack well but hold any numbers: what compression hides from blind mutation."""
    change = {
        "tokens": data.draw(st.lists(st.integers(0, 6) | st.integers(0, (1 << 64) - 1), min_size=2, max_size=2)),
        "ends": data.draw(st.lists(st.integers(-9, 9) | st.integers(-(1 << 63), (1 << 63) - 1), max_size=2)),
        "sizes": data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9))),
        "gaps": data.draw(st.lists(st.integers(0, 40), max_size=4)),
        "buckets": data.draw(st.lists(st.integers(0, 4), max_size=4)),
    }
    try:
        batch = decode_batch(_forge(**change), NARROW)
    except ProtocolError:
        return
    assert _bytes(decode_batch(encode_batch(batch), NARROW)) == _bytes(batch)


_MUTATED = StreamWriter(zstd=True)
write_samples(_user(np.random.default_rng(3), 70), _MUTATED, keep_order=True)
