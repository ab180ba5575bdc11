"""Where the bytes of blobs are: files of this machine, named by their SHA-256."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Protocol

from cloud_broker.errors import BlobCorruptError, StorageError, UnknownBlobError
from cloud_broker.files import make_private_directory
from hardware.durable import write_private
from protocol.messages import BlobRef

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobFiles(Protocol):
    """The bytes of blobs; which there are, and until when, `cloud_broker.storage.blobs.BlobStore` knows."""

    def write(self, ref: BlobRef, data: bytes) -> None:
        """Store the bytes, whole and durably, over whatever is there.

        Raises:
            StorageError: If they cannot be written.
            UnavailableError: If the store is away.
        """

    def has(self, ref: BlobRef) -> bool:
        """Whether bytes of that name and size are there."""

    def read(self, ref: BlobRef) -> bytes:
        """The bytes, checked against their name.

        Raises:
            BlobCorruptError: If they are missing, or are others.
            UnavailableError: If the store is away.
        """

    def path(self, ref: BlobRef) -> Path:
        """A file of this machine that holds them, checked against their name.

        Raises:
            BlobCorruptError, UnavailableError: As `read`.
        """

    def remove(self, sha256: str) -> None:
        """Remove them; no error if they are not there."""


class DiskBlobs:
    """Blobs as ``{folder}/{first two digits}/{sha256}``."""

    def __init__(self, folder: Path) -> None:
        self._folder = make_private_directory(folder)

    def write(self, ref: BlobRef, data: bytes) -> None:
        """See `BlobFiles`."""
        path = self.place(ref.sha256)
        try:
            make_private_directory(path.parent)
            write_private(path, data)
        except OSError as error:
            raise StorageError(f"cannot write blob {path}: {error.strerror}") from error

    def has(self, ref: BlobRef) -> bool:
        """See `BlobFiles`."""
        path = self.place(ref.sha256)
        return path.exists() and path.stat().st_size == ref.size_bytes

    def read(self, ref: BlobRef) -> bytes:
        """See `BlobFiles`."""
        path = self.place(ref.sha256)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BlobCorruptError(f"blob {path} is listed but cannot be read: {error.strerror}") from error
        return checked(ref, data, str(path))

    def path(self, ref: BlobRef) -> Path:
        """See `BlobFiles`."""
        self.read(ref)
        return self.place(ref.sha256)

    def remove(self, sha256: str) -> None:
        """See `BlobFiles`."""
        self.place(sha256).unlink(missing_ok=True)

    def place(self, sha256: str) -> Path:
        """Where a blob's file is, or would be."""
        return self._folder / sha256[:2] / sha256


def check_name(sha256: str) -> None:
    """See that a text can name a blob, and so reaches nothing else.

    Raises:
        UnknownBlobError: If it cannot.
    """
    if not _SHA256.fullmatch(sha256):
        raise UnknownBlobError(f"{sha256[:80]!r} does not name a blob")


def checked(ref: BlobRef, data: bytes, where: str) -> bytes:
    """The bytes of a blob, if they are its.

    Raises:
        BlobCorruptError: If they are others.
    """
    if len(data) != ref.size_bytes or hashlib.sha256(data).hexdigest() != ref.sha256:
        raise BlobCorruptError(f"blob {where} does not match its name: the store or someone changed it")
    return data
