"""Blobs on disk, by SHA-256: whole ones, and those on their way with a bitmap of the chunks that are here.

A chunk is on disk before its bit is, so after any cut the bitmap claims nothing that is not there; what it fails to
claim is fetched again. A blob gets its name only after its digest was checked.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from edge.errors import StoreError
from edge.storage.disk import store_error
from hardware.durable import sync
from protocol.chunks import Bitmap, chunk_count, verify
from protocol.errors import IntegrityError, MalformedMessageError
from protocol.messages import BlobRef
from protocol.topics import CHUNK_BYTES, CHUNK_SIZES
from protocol.transfer import Received

_HEAD = struct.Struct("<I")  # before the bitmap: the size of its chunks
_OPEN_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class BlobStore:
    """A folder of blobs; it is made if absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where a whole blob lies, or would lie."""
        return self._folder / sha256

    def __contains__(self, ref: BlobRef) -> bool:
        path = self.path(ref.sha256)
        return path.is_file() and path.stat().st_size == ref.size_bytes

    def whole(self) -> tuple[str, ...]:
        """SHA-256 digests of the whole blobs."""
        return tuple(sorted(path.name for path in self._folder.iterdir() if not path.suffix))

    def partial(self, ref: BlobRef, chunk_bytes: int = CHUNK_BYTES) -> Partial:
        """Continue, or begin, to receive a blob in chunks of that size; use it as a context manager.

        Raises:
            StoreError: If its file cannot be opened.
        """
        return Partial(ref, self._folder, chunk_bytes)

    def begun_with(self, ref: BlobRef) -> int | None:
        """The size of the chunks that a blob on its way here was last cut by; None if nothing of it is here."""
        return _read_head(self._folder / f"{ref.sha256}.have")

    def put(self, ref: BlobRef, data: bytes) -> Path:
        """Keep a whole blob that was made here, such as from a patch.

        Raises:
            IntegrityError: If it is another.
            StoreError: If the disk fails.
        """
        verify(data, ref)
        with self.partial(ref) as partial:
            partial.write(Received(0, 0, data))
            return partial.finish()

    def discard(self, sha256: str) -> None:
        """Delete a whole blob, so that it is fetched again.

        Raises:
            StoreError: If the disk fails.
        """
        self._delete(self.path(sha256))

    def keep_only(self, digests: set[str]) -> None:
        """Delete every other blob, whole or partial.

        Raises:
            StoreError: If the disk fails.
        """
        for path in self._folder.iterdir():
            if path.stem not in digests:
                self._delete(path)

    def _delete(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise store_error(self._folder, f"blob {path.name[:12]}: cannot be deleted", error) from error


class Partial:
    """A blob on its way here.

    Attributes:
        have: The chunks that are on disk; `protocol.transfer.Download` updates it.
        chunk_bytes: What it is cut by.
    """

    def __init__(self, ref: BlobRef, folder: Path, chunk_bytes: int) -> None:
        self._ref = ref
        self.chunk_bytes = chunk_bytes
        self._cut_anew = False
        self._whole = folder / ref.sha256
        self._data_path, self._have_path = folder / f"{ref.sha256}.part", folder / f"{ref.sha256}.have"
        try:
            fresh = not self._data_path.exists()
            self._data = os.open(self._data_path, _OPEN_FLAGS, 0o600)
            self._bitmap = os.open(self._have_path, _OPEN_FLAGS, 0o600)
        except OSError as error:
            raise store_error(folder, f"blob {ref.sha256[:12]}: {self._data_path}", error) from error
        self.have = Bitmap(chunk_count(ref.size_bytes, chunk_bytes)) if fresh else self._read_bitmap()

    def _read_bitmap(self) -> Bitmap:
        size_bytes, chunk_bytes = self._ref.size_bytes, _read_head(self._have_path)
        try:
            if chunk_bytes is not None:
                data = self._have_path.read_bytes()[_HEAD.size :]
                have = Bitmap.from_bytes(data, chunk_count(size_bytes, chunk_bytes))
                return have.recut(size_bytes, chunk_bytes, self.chunk_bytes)
        except (OSError, MalformedMessageError):
            pass  # cut short: begin again
        return Bitmap(chunk_count(size_bytes, self.chunk_bytes))

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._data)
        os.close(self._bitmap)

    def write(self, received: Received) -> None:
        """Put a chunk on disk, then note that it is there.

        Raises:
            StoreError: If the disk is full or fails.
        """
        try:
            os.pwrite(self._data, received.data, received.offset)
            os.fdatasync(self._data)
            state = _HEAD.pack(self.chunk_bytes) + self.have.to_bytes()
            os.pwrite(self._bitmap, state, 0)
            if not self._cut_anew:  # a bitmap of smaller chunks was longer
                os.ftruncate(self._bitmap, len(state))
                self._cut_anew = True
        except OSError as error:
            raise self._fault(error) from error

    def finish(self) -> Path:
        """Check the whole and give it its name.

        Raises:
            IntegrityError: If it is not what was promised; it is forgotten, to be fetched again.
            StoreError: If the disk fails.
        """
        try:
            self._check()
            self._data_path.replace(self._whole)
            self._have_path.unlink(missing_ok=True)
            sync(self._whole.parent)
        except OSError as error:
            raise self._fault(error) from error
        return self._whole

    def _check(self) -> None:
        digest = hashlib.sha256()
        with self._data_path.open("rb") as data:
            while piece := data.read(1 << 20):
                digest.update(piece)
            size_bytes = data.tell()
        if (size_bytes, digest.hexdigest()) != (self._ref.size_bytes, self._ref.sha256):
            self._forget()
            raise IntegrityError(f"blob {self._ref.sha256[:12]}: arrived with SHA-256 {digest.hexdigest()[:12]}")

    def _fault(self, error: OSError) -> StoreError:
        return store_error(self._whole.parent, f"blob {self._ref.sha256[:12]}: {self._data_path}", error)

    def _forget(self) -> None:
        self._have_path.unlink(missing_ok=True)
        self._data_path.unlink(missing_ok=True)


def _read_head(path: Path) -> int | None:
    """The chunk size that a bitmap's file states; None where there is none, or it is cut short."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
    except OSError:
        return None
    chunk_bytes: int = _HEAD.unpack(head)[0] if len(head) == _HEAD.size else 0
    return chunk_bytes if chunk_bytes in CHUNK_SIZES else None
