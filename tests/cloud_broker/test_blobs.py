"""Blobs, on disk and in an S3-compatible store: whole or absent, checked when read, gone when expired."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_broker.errors import BlobCorruptError, ConfigError, StorageError, UnavailableError, UnknownBlobError
from cloud_broker.storage.blobs import BlobStore, _Cache, open_files
from cloud_broker.storage.place import Place, StorageOptions
from protocol.errors import IntegrityError, MalformedMessageError
from protocol.messages import BlobRef
from protocol.topics import CHUNK_BYTES
from tests.s3 import S3Server


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """That time."""
        return self.now_s


def test_a_blob_comes_back_by_its_digest_after_a_restart(blob_place: Place) -> None:
    """What was put is named by its SHA-256 and read back whole by a new process."""
    data = bytes(range(256)) * 300
    ref = BlobStore(blob_place).put(data)
    assert ref.sha256 == hashlib.sha256(data).hexdigest()
    reopened = BlobStore(blob_place)
    assert reopened.get(ref.sha256) == data
    assert reopened.ref(ref.sha256) == ref


def test_chunks_of_a_blob_join_to_it(blob_place: Place) -> None:
    """Chunks are the contract's size and in order; beyond the last there is none."""
    store, data = BlobStore(blob_place), b"x" * (2 * CHUNK_BYTES) + b"tail"
    ref = store.put(data)
    assert b"".join(store.chunk(ref.sha256, index).data for index in range(3)) == data
    with pytest.raises(MalformedMessageError, match="no chunk 3"):
        store.chunk(ref.sha256, 3)


def test_a_damaged_blob_is_not_given_out(blob_place: Place) -> None:
    """Other bytes, more, fewer or none are an integrity error, not wrong bytes."""
    ref = BlobStore(blob_place).put(b"precious")
    store, files = BlobStore(blob_place), open_files(blob_place)
    for damaged in (b"precioux", b"precious and more", b""):
        files.write(ref, damaged)
        with pytest.raises(IntegrityError, match="does not match its name"):
            store.get(ref.sha256)
    files.remove(ref.sha256)
    with pytest.raises(BlobCorruptError, match="cannot be read"):
        store.get(ref.sha256)


def test_putting_a_damaged_blob_again_heals_it(blob_place: Place) -> None:
    """It is written anew."""
    store = BlobStore(blob_place)
    ref = store.put(b"precious")
    open_files(blob_place).write(ref, b"")
    store.put(b"precious")
    assert BlobStore(blob_place).get(ref.sha256) == b"precious"


def test_a_blob_is_a_file_where_one_is_needed(blob_place: Place) -> None:
    """With its bytes; asked for again it is the same file, a copy that was damaged is fetched anew."""
    store = BlobStore(blob_place)
    ref = store.put(b"model")
    path = store.path(ref.sha256)
    assert path.read_bytes() == b"model"
    assert store.path(ref.sha256) == path
    path.write_bytes(b"meddl")
    if blob_place.options.bucket is None:
        with pytest.raises(BlobCorruptError, match="does not match its name"):
            store.path(ref.sha256)
    else:
        assert store.path(ref.sha256).read_bytes() == b"model"


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64])
def test_an_unknown_name_is_refused(blob_place: Place, name: str) -> None:
    """No name reaches outside the store."""
    with pytest.raises(UnknownBlobError):
        BlobStore(blob_place).get(name)


def test_a_temporary_blob_expires(blob_place: Place) -> None:
    """At its time it is refused, and `expire` removes its file."""
    clock = Clock()
    store = BlobStore(blob_place, clock=clock)
    ref = store.put(b"match", lifetime_s=60)
    clock.now_s += 59
    assert store.expire() == 0
    assert store.get(ref.sha256) == b"match"
    clock.now_s += 1
    with pytest.raises(UnknownBlobError, match="expired"):
        store.get(ref.sha256)
    assert store.expire() == 1
    assert not open_files(blob_place).has(ref)
    assert store.expire() == 0


def test_what_expires_while_it_is_put_again_is_there(blob_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may remove the bytes between their writing and their listing: they are written again."""
    clock = Clock()
    store, other = BlobStore(blob_place, clock=clock), BlobStore(blob_place, clock=clock)
    store.put(b"patch", lifetime_s=1)
    clock.now_s += 2
    files = store._files
    write = files.write

    def write_then_expire(ref: BlobRef, data: bytes) -> None:
        write(ref, data)
        monkeypatch.setattr(files, "write", write)
        assert other.expire() == 1

    monkeypatch.setattr(files, "write", write_then_expire)
    ref = store.put(b"patch", lifetime_s=60)
    assert BlobStore(blob_place, clock=clock).get(ref.sha256) == b"patch"


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


def test_a_store_that_is_away_is_told_apart(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes; a bucket that is not there does not, and says what to do."""
    s3.use(monkeypatch)
    store = BlobStore(Place(tmp_path, StorageOptions(blobs_url="s3://no-such-bucket/x")))
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/x/.*make the bucket"):
        store.put(b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = BlobStore(Place(tmp_path, StorageOptions(blobs_url=s3.url("away"))))
    with pytest.raises(UnavailableError, match="Could not connect"):
        store.put(b"x")


def test_two_clouds_share_a_bucket(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each beneath its prefix: what one removes the other still has."""
    s3.use(monkeypatch)
    clock = Clock()
    one, two = (
        BlobStore(Place(tmp_path / name, StorageOptions(blobs_url=s3.url(name))), clock=clock) for name in ("a", "b")
    )
    ref = one.put(b"same", lifetime_s=1)
    assert two.put(b"same") == ref
    clock.now_s += 2
    assert one.expire() == 1
    assert BlobStore(Place(tmp_path / "b", StorageOptions(blobs_url=s3.url("b")))).get(ref.sha256) == b"same"


@pytest.mark.parametrize("url", ["s3://", "http://host/bucket", "s3://UPPER", "s3:/bucket", "s3://bucket/a b"])
def test_a_url_that_names_no_bucket_is_refused(url: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigError, match="write s3://bucket"):
        StorageOptions(blobs_url=url)
