"""Blobs by their content: each a file named by its SHA-256, checked when it is read.

    {directory}/blobs/{first two digits}/{sha256}
    {directory}/blobs.sqlite

Published blobs stay; temporary ones, such as patches, expire. What is made for one device alone is kept apart from
these, by `cloud_broker.answer_store`.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from cloud_broker.database import Database
from cloud_broker.errors import BlobCorruptError, StorageError, UnknownBlobError
from cloud_broker.files import make_private_directory
from hardware.durable import write_private
from protocol.messages import BlobRef, Chunk
from protocol.topics import CHUNK_BYTES
from protocol.transfer import chunk_of

CACHE_BYTES = 128 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TABLES = """
CREATE TABLE IF NOT EXISTS blob (
    sha256 TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, expires_s REAL
) WITHOUT ROWID;
DROP TABLE IF EXISTS reader;
"""


class BlobStore:
    """Blobs on disk; safe to use from several threads."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the store under ``directory``, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._blobs = make_private_directory(directory / "blobs")
        self._database = Database(directory / "blobs.sqlite", _TABLES)
        self._clock = clock
        self._cache = _Cache(CACHE_BYTES)
        self._lock = threading.Lock()

    def put(self, data: bytes, *, lifetime_s: float | None = None) -> BlobRef:
        """Store a blob; storing it again only prolongs its life.

        Args:
            data: At least one byte.
            lifetime_s: Seconds after which `expire` may remove it; None keeps it.

        Raises:
            OversizeError: If it exceeds the contract's bound.
            StorageError: If the disk fails.
        """
        ref = BlobRef(hashlib.sha256(data).hexdigest(), len(data))
        expires_s = None if lifetime_s is None else self._clock() + lifetime_s
        with self._lock:
            self._write(ref, data)
            with self._database.transaction() as database:
                # NULL, "never", outlives any time, so a published blob is not shortened by a temporary namesake.
                database.execute(
                    "INSERT INTO blob VALUES (?, ?, ?) ON CONFLICT (sha256) DO UPDATE SET expires_s ="
                    " CASE WHEN expires_s IS NULL OR excluded.expires_s IS NULL THEN NULL"
                    " ELSE max(expires_s, excluded.expires_s) END",
                    (ref.sha256, ref.size_bytes, expires_s),
                )
        self._cache.put(ref.sha256, data)
        return ref

    def get(self, sha256: str) -> bytes:
        """A blob's bytes, checked against its name when they come from disk.

        Raises:
            UnknownBlobError: If it is not here or has expired.
            BlobCorruptError: If its file was damaged.
        """
        self.ref(sha256)
        cached = self._cache.get(sha256)
        if cached is not None:
            return cached
        data = self._read(sha256)
        self._cache.put(sha256, data)
        return data

    def chunk(self, sha256: str, index: int, chunk_bytes: int = CHUNK_BYTES) -> Chunk:
        """One chunk of a blob that is cut by ``chunk_bytes``.

        Raises:
            UnknownBlobError: If the blob is not here or has expired.
            BlobCorruptError: If its file was damaged.
            MalformedMessageError: If it has no such chunk.
        """
        return chunk_of(self.get(sha256), sha256, index, chunk_bytes)

    def published(self, sha256: str) -> bool:
        """Whether a blob is here and stays."""
        return bool(self._database.rows("SELECT 1 FROM blob WHERE sha256 = ? AND expires_s IS NULL", sha256))

    def expire(self) -> int:
        """Remove the blobs whose time is over; how many."""
        with self._lock, self._database.transaction() as database:
            over = [row[0] for row in database.execute("SELECT sha256 FROM blob WHERE expires_s <= ?", [self._clock()])]
            for sha256 in over:
                database.execute("DELETE FROM blob WHERE sha256 = ?", [sha256])
                self._cache.drop(sha256)
                self.path(sha256).unlink(missing_ok=True)
        return len(over)

    def ref(self, sha256: str) -> BlobRef:
        """A blob's name and size.

        Raises:
            UnknownBlobError: If it is not here or has expired.
        """
        rows = self._database.rows("SELECT size_bytes, expires_s FROM blob WHERE sha256 = ?", sha256)
        if not rows or (rows[0][1] is not None and rows[0][1] <= self._clock()):
            self._cache.drop(sha256)  # another worker may have removed it
            raise _unknown(sha256)
        return BlobRef(sha256, rows[0][0])

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _write(self, ref: BlobRef, data: bytes) -> None:
        path = self.path(ref.sha256)
        try:
            make_private_directory(path.parent)
            write_private(path, data)
        except OSError as error:
            raise StorageError(f"cannot write blob {path}: {error.strerror}") from error

    def _read(self, sha256: str) -> bytes:
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BlobCorruptError(f"blob {path} is listed but cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobCorruptError(f"blob {path} does not match its name: the disk or someone changed it")
        return data

    def path(self, sha256: str) -> Path:
        """Where a blob's file is, or would be."""
        if not _SHA256.fullmatch(sha256):
            raise UnknownBlobError(f"{sha256[:80]!r} does not name a blob")
        return self._blobs / sha256[:2] / sha256


def _unknown(sha256: str) -> UnknownBlobError:
    return UnknownBlobError(f"no blob {sha256[:12]} here, or it has expired")


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
