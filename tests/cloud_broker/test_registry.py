"""Blobs and published models: whole or absent, checked when read, gone when expired."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_broker.blobs import BlobStore, _Cache
from cloud_broker.errors import BlobCorruptError, StorageError, UnknownBlobError
from cloud_broker.registry import Registry
from protocol.errors import IntegrityError, MalformedMessageError
from protocol.topics import CHUNK_BYTES
from tests.cloud_broker.samples import SCHEMA


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """That time."""
        return self.now_s


def test_a_blob_comes_back_by_its_digest_after_a_restart(tmp_path: Path) -> None:
    """What was put is named by its SHA-256 and read back whole by a new process."""
    data = bytes(range(256)) * 300
    ref = BlobStore(tmp_path).put(data)
    assert ref.sha256 == hashlib.sha256(data).hexdigest()
    reopened = BlobStore(tmp_path)
    assert reopened.get(ref.sha256) == data
    assert reopened.ref(ref.sha256) == ref


def test_chunks_of_a_blob_join_to_it(tmp_path: Path) -> None:
    """Chunks are the contract's size and in order; beyond the last there is none."""
    store, data = BlobStore(tmp_path), b"x" * (2 * CHUNK_BYTES) + b"tail"
    ref = store.put(data)
    assert b"".join(store.chunk(ref.sha256, index).data for index in range(3)) == data
    with pytest.raises(MalformedMessageError, match="no chunk 3"):
        store.chunk(ref.sha256, 3)


def test_a_damaged_blob_is_not_given_out(tmp_path: Path) -> None:
    """A changed or missing file is an integrity error, not wrong bytes."""
    ref = BlobStore(tmp_path).put(b"precious")
    store = BlobStore(tmp_path)
    store.path(ref.sha256).write_bytes(b"precioux")
    with pytest.raises(IntegrityError, match="does not match its name"):
        store.get(ref.sha256)
    store.path(ref.sha256).unlink()
    with pytest.raises(BlobCorruptError, match="cannot be read"):
        store.get(ref.sha256)


def test_putting_a_damaged_blob_again_heals_it(tmp_path: Path) -> None:
    """The file is written anew."""
    store = BlobStore(tmp_path)
    ref = store.put(b"precious")
    store.path(ref.sha256).write_bytes(b"")
    store.put(b"precious")
    assert BlobStore(tmp_path).get(ref.sha256) == b"precious"


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64])
def test_an_unknown_name_is_refused(tmp_path: Path, name: str) -> None:
    """No name reaches outside the store."""
    with pytest.raises(UnknownBlobError):
        BlobStore(tmp_path).get(name)


def test_a_temporary_blob_expires(tmp_path: Path) -> None:
    """At its time it is refused, and `expire` removes its file."""
    clock = Clock()
    store = BlobStore(tmp_path, clock=clock)
    ref = store.put(b"match", lifetime_s=60)
    clock.now_s += 59
    assert store.expire() == 0
    assert store.get(ref.sha256) == b"match"
    clock.now_s += 1
    with pytest.raises(UnknownBlobError, match="expired"):
        store.get(ref.sha256)
    assert store.expire() == 1
    assert not store.path(ref.sha256).exists()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(st.none(), st.integers(1, 100)), min_size=1, max_size=4))
def test_the_longest_promise_counts(tmp_path_factory: pytest.TempPathFactory, lifetimes_s: list[int | None]) -> None:
    """A blob put several times lives as long as its longest life, for ever if one was without end."""
    clock = Clock()
    store = BlobStore(tmp_path_factory.mktemp("blobs"), clock=clock)
    for lifetime_s in lifetimes_s:
        ref = store.put(b"same", lifetime_s=lifetime_s)
    ends = [1000 if lifetime_s is None else lifetime_s for lifetime_s in lifetimes_s]
    clock.now_s += max(ends) - 0.5
    assert store.get(ref.sha256) == b"same"
    clock.now_s += 1
    assert store.expire() == (None not in lifetimes_s)
    store.close()


def test_the_cache_keeps_what_was_used_last() -> None:
    """It holds no more bytes than its bound, but always the newest blob."""
    cache = _Cache(10)
    cache.put("a", b"1234")
    cache.put("b", b"1234")
    cache.get("a")
    cache.put("c", b"1234")
    assert [cache.get(name) is not None for name in "abc"] == [True, False, True]
    cache.put("big", b"x" * 99)
    assert [cache.get(name) is not None for name in ("a", "c", "big")] == [False, False, True]


def test_the_newest_model_is_served_with_its_lineage(tmp_path: Path) -> None:
    """Publishing again supersedes; versions rise; everything survives a restart."""
    registry = Registry(tmp_path)
    assert registry.latest() is None
    registry.publish(SCHEMA, b"first", b"g", {"data": "old"})
    second = registry.publish(SCHEMA, b"second", b"g", {"data": "new", "metrics": {"auc": 0.8}})
    registry.close()
    found = Registry(tmp_path).latest()
    assert found == second
    assert (found.version, found.schema, found.lineage["metrics"]) == (2, SCHEMA, {"auc": 0.8})


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """An unusable database is an error with its path, before anything is written over it."""
    (tmp_path / "registry.sqlite").write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(StorageError, match=r"registry\.sqlite"):
        Registry(tmp_path)


def test_a_model_is_the_newest_only_when_what_it_needs_is_made(tmp_path: Path) -> None:
    """While a model is being prepared its file is there and the model before is the newest; if it fails it stays so."""
    registry, seen = Registry(tmp_path), []
    first = registry.publish(SCHEMA, b"one", b"c", {})

    def prepare(path: Path, sha256: str, _rows: object) -> None:
        seen.append((path.read_bytes(), hashlib.sha256(b"two").hexdigest() == sha256, registry.latest()))

    second = registry.publish(SCHEMA, b"two", b"c", {}, prepare=prepare)
    assert seen == [(b"two", True, first)]
    assert registry.latest() == second

    def fail(*_: object) -> None:
        raise StorageError("disk full")

    with pytest.raises(StorageError, match="disk full"):
        registry.publish(SCHEMA, b"three", b"c", {}, prepare=fail)
    assert registry.latest() == second


def test_the_history_says_when_a_model_was_superseded(tmp_path: Path) -> None:
    """The newest first, as many as asked for, each with the moment at which the next one was published."""
    clock = Clock()
    registry = Registry(tmp_path, clock=clock)
    assert registry.history(3) == []
    published = []
    for number in range(3):
        clock.now_s = 1000.0 + number
        published.append(registry.publish(SCHEMA, b"h0 %d" % number, b"g", {}))
    assert registry.history(2) == [(published[2], None), (published[1], 1002.0)]
    registry.close()
