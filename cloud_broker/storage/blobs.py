"""Blobs by their content: each named by its SHA-256, checked when it is read.

Their bytes are files of this machine, ``{state folder}/blobs``, or objects of an S3-compatible store; which blobs there
are, and until when, is in the database. Published blobs stay; temporary ones, such as patches, expire. What is made for
one device alone is no blob of these, see `cloud_broker.workers.answer_store`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import bindparam, case, delete, or_, select

from cloud_broker.errors import UnknownBlobError
from cloud_broker.storage.blob_files import BlobFiles, DiskBlobs, check_name
from cloud_broker.storage.database import SharedDatabase, insert
from cloud_broker.storage.place import Place
from cloud_broker.storage.tables import BLOB
from protocol.chunks import chunk_of
from protocol.messages import BlobRef, Chunk
from protocol.topics import CHUNK_BYTES

CACHE_BYTES = 128 << 20
_MAX_KNOWN = 10_000  # published blobs, which a process need not look up again
_ADD = insert(BLOB)
_NEW = _ADD.excluded.expires_s
# NULL, "never", outlives any time, so a published blob is not shortened by a temporary namesake.
_ADD = _ADD.on_conflict_do_update(
    index_elements=[BLOB.c.sha256],
    set_={
        "expires_s": case(
            (or_(BLOB.c.expires_s.is_(None), _NEW.is_(None)), None),
            (BLOB.c.expires_s > _NEW, BLOB.c.expires_s),
            else_=_NEW,
        )
    },
)
_FIND = select(BLOB.c.size_bytes, BLOB.c.expires_s).where(BLOB.c.sha256 == bindparam("sha256"))
_EXPIRE = delete(BLOB).where(BLOB.c.expires_s <= bindparam("now_s")).returning(BLOB.c.sha256)


class BlobStore:
    """Blobs of one cloud; safe to use from several threads and processes."""

    def __init__(self, where: Place | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the store, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._files = open_files(Place.of(where))
        self._database = SharedDatabase(where)
        self._clock = clock
        self._cache = _Cache(CACHE_BYTES)
        self._known: dict[str, BlobRef] = {}

    def put(self, data: bytes, *, lifetime_s: float | None = None) -> BlobRef:
        """Store a blob; storing it again only prolongs its life.

        Args:
            data: At least one byte.
            lifetime_s: Seconds after which `expire` may remove it; None keeps it.

        Raises:
            OversizeError: If it exceeds the contract's bound.
            StorageError: If the disk fails.
            UnavailableError: If the database or the store of blobs is away.
        """
        ref = BlobRef(hashlib.sha256(data).hexdigest(), len(data))
        expires_s = None if lifetime_s is None else self._clock() + lifetime_s
        self._files.write(ref, data)
        with self._database.transaction() as database:
            row = {"sha256": ref.sha256, "size_bytes": ref.size_bytes, "expires_s": expires_s}
            database.execute(_ADD, row)
        if not self._files.has(ref):  # it expired between the two, and was removed
            self._files.write(ref, data)
        self._cache.put(ref.sha256, data)
        return ref

    def get(self, sha256: str) -> bytes:
        """A blob's bytes, checked against its name when they come from where they are kept.

        Raises:
            UnknownBlobError: If it is not here or has expired.
            BlobCorruptError: If it was damaged.
            UnavailableError: If the database or the store of blobs is away.
        """
        ref = self.ref(sha256)
        cached = self._cache.get(sha256)
        if cached is not None:
            return cached
        data = self._files.read(ref)
        self._cache.put(sha256, data)
        return data

    def chunk(self, sha256: str, index: int, chunk_bytes: int = CHUNK_BYTES) -> Chunk:
        """One chunk of a blob that is cut by ``chunk_bytes``.

        Raises:
            UnknownBlobError, BlobCorruptError, UnavailableError: As `get`.
            MalformedMessageError: If it has no such chunk.
        """
        return chunk_of(self.get(sha256), sha256, index, chunk_bytes)

    def published(self, sha256: str) -> bool:
        """Whether a blob is here and stays."""
        return sha256 in self._known or any(expires_s is None for _size, expires_s in self._find(sha256))

    def expire(self) -> int:
        """Remove the blobs whose time is over; how many."""
        with self._database.transaction() as database:
            over = list(database.scalars(_EXPIRE, {"now_s": self._clock()}))
            for sha256 in over:  # before others may put them anew
                self._cache.drop(sha256)
                self._files.remove(sha256)
        return len(over)

    def ref(self, sha256: str) -> BlobRef:
        """A blob's name and size.

        Raises:
            UnknownBlobError: If it is not here or has expired.
        """
        if (known := self._known.get(sha256)) is not None:
            return known
        for size_bytes, expires_s in self._find(sha256):
            ref = BlobRef(sha256, size_bytes)
            if expires_s is None and len(self._known) < _MAX_KNOWN:
                self._known[sha256] = ref
            if expires_s is None or expires_s > self._clock():
                return ref
        self._cache.drop(sha256)  # another worker may have removed it
        raise UnknownBlobError(f"no blob {sha256[:12]} here, or it has expired")

    def path(self, sha256: str) -> Path:
        """A file of this machine with a blob's bytes, checked against its name.

        Raises:
            UnknownBlobError, BlobCorruptError, UnavailableError: As `get`.
        """
        return self._files.path(self.ref(sha256))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _find(self, sha256: str) -> list[tuple[int, float | None]]:
        check_name(sha256)
        return [(size_bytes, expires_s) for size_bytes, expires_s in self._database.rows(_FIND, sha256=sha256)]


def open_files(place: Place) -> BlobFiles:
    """Where the bytes of a cloud's blobs are.

    Raises:
        StorageError: If a store that is configured cannot be used.
    """
    if place.options.bucket is None:
        return DiskBlobs(place.state_dir / "blobs")
    from cloud_broker.storage.blob_s3 import S3Blobs  # noqa: PLC0415 - needed by few

    return S3Blobs(*place.options.bucket, place.state_dir / "blobs")


class _Cache:
    """The blobs used last, up to a number of bytes: a device pulls a blob in many chunks, and devices pull the same."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: str) -> bytes | None:
        with self._lock:
            if sha256 in self._blobs:
                self._blobs.move_to_end(sha256)
            return self._blobs.get(sha256)

    def put(self, sha256: str, data: bytes) -> None:
        with self._lock:
            self._remove(sha256)
            self._blobs[sha256] = data
            self._held_bytes += len(data)
            while self._held_bytes > self._limit_bytes and len(self._blobs) > 1:
                self._remove(next(iter(self._blobs)))

    def drop(self, sha256: str) -> None:
        with self._lock:
            self._remove(sha256)

    def _remove(self, sha256: str) -> None:
        self._held_bytes -= len(self._blobs.pop(sha256, b""))
