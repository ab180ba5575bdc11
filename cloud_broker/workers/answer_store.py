"""What is made for one device and waits until that device has pulled it: matched samples, rows of a table.

    {directory}/answers/{device}/{sha256}     magic | contributors, u32 | their numbers, int32 each | the bytes

All of it can be made again by asking again, so nothing is synced to disk and no database knows of it: a power cut may
lose answers, and what it spoils is not given out. Every worker of a machine reads what another wrote.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError, UnknownBlobError
from cloud_broker.files import make_private_directory
from protocol.chunks import blob_ref, chunk_of
from protocol.digests import check_sha256
from protocol.errors import MalformedMessageError
from protocol.messages import BlobRef, Chunk
from protocol.topics import check_name

LIFETIME_S = 24 * 3600.0
MOST_OF_A_DEVICE = 16  # the oldest give way: a round has two or three
_MAGIC = b"CAN1"
_HEAD = struct.Struct("<4sI")
_MAX_REMEMBERED = 100_000
_UNFINISHED = "."  # what the names of files begin with that are being written


class AnswerStore:
    """Answers on disk; safe to use from several threads and processes."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the store under ``directory``, or create it.

        Args:
            directory: The cloud's state.
            clock: Unix seconds.
        """
        self._folder = make_private_directory(directory / "answers")
        self._clock = clock
        self._lock = threading.Lock()
        self._checked: set[Path] = set()

    def put(self, data: bytes, device: str, contributors: NDArray[np.int32] | None = None) -> BlobRef:
        """Keep an answer.

        Args:
            data: At least one byte.
            device: Who may pull it, and nobody else.
            contributors: Numbers of those whose samples are in it, [n].

        Raises:
            OversizeError: If it exceeds the contract's bound.
            StorageError: If it cannot be written.
        """
        ref = blob_ref(data)
        numbers = np.zeros(0, np.int32) if contributors is None else np.unique(contributors)
        path = self._path(ref.sha256, device)
        unfinished = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
        try:
            make_private_directory(path.parent)
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(_HEAD.pack(_MAGIC, len(numbers)) + numbers.astype("<i4").tobytes() + data)
            now_s = self._clock()
            os.utime(unfinished, (now_s, now_s))
            unfinished.replace(path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        self._make_room(path.parent)
        return ref

    def holds(self, sha256: str, device: str) -> bool:
        """Whether an answer is here for a device."""
        try:
            with self._opened(sha256, device):
                return True
        except UnknownBlobError:
            return False

    def get(self, sha256: str, device: str) -> bytes:
        """An answer.

        Raises:
            UnknownBlobError: If it is not here for that device.
        """
        with self._opened(sha256, device) as data:
            return bytes(data)

    def chunks(self, sha256: str, device: str, indices: Iterable[int], chunk_bytes: int) -> list[Chunk]:
        """Chunks of an answer that is cut by ``chunk_bytes``.

        Raises:
            UnknownBlobError: If it is not here for that device.
            MalformedMessageError: If it has no such chunk.
        """
        with self._opened(sha256, device) as data:
            return [chunk_of(data, sha256, index, chunk_bytes) for index in indices]

    def drop(self, sha256: str, device: str) -> None:
        """Lose an answer; no error if it is not here."""
        self._remove(self._path(sha256, device))

    def forget(self, contributor: int) -> int:
        """Lose all answers that hold samples of a contributor, by its number; how many."""
        # One that is being written is looked at by its writer, who finds that its samples are nobody's by now.
        finished = (path for path in self._all() if not path.name.startswith(_UNFINISHED))
        return self._remove_all(path for path in finished if contributor in _contributors(path))

    def expire(self) -> int:
        """Lose what is older than `LIFETIME_S`, and the folders of devices that have nothing here; how many answers."""
        oldest_s = self._clock() - LIFETIME_S
        gone = self._remove_all(path for path in self._all() if _changed_s(path) <= oldest_s)
        for folder in self._folder.iterdir():
            try:
                folder.rmdir()
            except OSError:
                continue  # it has something
        return gone

    @contextmanager
    def _opened(self, sha256: str, device: str) -> Iterator[memoryview]:
        """The bytes of an answer, mapped."""
        path = self._path(sha256, device)
        try:
            file = path.open("rb")
        except OSError as error:
            raise _unknown(sha256) from error
        with file:
            found = os.fstat(file.fileno())
            if found.st_mtime <= self._clock() - LIFETIME_S or found.st_size < _HEAD.size:
                raise _unknown(sha256)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with mapped, memoryview(mapped) as whole, whole[_begin(whole) :] as data:
                self._check(path, data)
                yield data

    def _check(self, path: Path, data: memoryview) -> None:
        """Compare bytes with their name, once a process: a power cut may have spoilt what was not synced."""
        if path in self._checked:
            return
        if hashlib.sha256(data).hexdigest() != path.name:
            raise _unknown(path.name)
        with self._lock:
            if len(self._checked) >= _MAX_REMEMBERED:
                self._checked.clear()
            self._checked.add(path)

    def _make_room(self, folder: Path) -> None:
        paths = list(folder.iterdir())
        if len(paths) > MOST_OF_A_DEVICE:
            self._remove_all(sorted(paths, key=_changed_s)[:-MOST_OF_A_DEVICE])

    def _all(self) -> Iterator[Path]:
        return self._folder.glob("*/*")

    def _remove_all(self, paths: Iterable[Path]) -> int:
        removed = list(paths)
        for path in removed:
            self._remove(path)
        return len(removed)

    def _remove(self, path: Path) -> None:
        with self._lock:
            self._checked.discard(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete {path}: {error.strerror}") from error

    def _path(self, sha256: str, device: str) -> Path:
        try:
            return self._folder / check_name(device, "device") / _checked_digest(sha256)
        except MalformedMessageError as error:
            raise _unknown(sha256) from error


def _checked_digest(sha256: str) -> str:
    check_sha256(sha256, "blob")
    return sha256


def _begin(head: bytes | memoryview) -> int:
    """Where the bytes of an answer begin in its file."""
    magic, count = _HEAD.unpack_from(head)
    return _HEAD.size + 4 * int(count) if magic == _MAGIC else len(head)


def _contributors(path: Path) -> NDArray[np.int32]:
    """Numbers of those whose samples are in a file; none where it is gone or no answer."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size or head[: len(_MAGIC)] != _MAGIC:
                return np.zeros(0, np.int32)
            numbers = file.read(_begin(head) - _HEAD.size)
    except OSError:
        return np.zeros(0, np.int32)
    return np.frombuffer(numbers[: len(numbers) // 4 * 4], "<i4").astype(np.int32)


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _unknown(sha256: str) -> UnknownBlobError:
    return UnknownBlobError(f"no blob {sha256[:12]} here, or it has expired")
