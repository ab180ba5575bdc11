"""Columns of numbers in mapped files, which all processes of a machine see alike, and which cost no time to open.

    {directory}/rows         how many rows are written, how many of these are surely on disk, and since which boot
    {directory}/{name}.col   one column, row after row; sparse some way beyond the rows written

What is in them can be made again from elsewhere: after a crash of the machine only the rows that were flushed count;
after a crash of a process all of them do, because the kernel still has them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.files import make_private_directory
from hardware.durable import sync

Array = NDArray[Any]
ROWS_FILE = "rows"
_FIRST_CAPACITY = 1024
_ROOM_BYTES = 1 << 20  # of each column are taken from the disk at a time
_BOOT_BYTES = 36
_HEAD_BYTES = 16 + _BOOT_BYTES
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")


class SharedColumns:
    """Named columns of n rows. Whoever writes holds a lock of its own among processes; readers need none."""

    def __init__(self, directory: Path, columns: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        """Map the columns, or create them; to be called with the writers' lock held.

        Args:
            directory: Where the files are.
            columns: Of each column its dtype and the shape of a row.

        Raises:
            StorageError: If the files cannot be used.
        """
        self._directory = make_private_directory(directory)
        self._types = {name: (np.dtype(dtype), shape) for name, (dtype, shape) in columns.items()}
        self._files: dict[str, mmap.mmap] = {}
        self._room: dict[str, int] = {}
        self._arrays: dict[str, Array] = {}
        head = self._map(ROWS_FILE, _HEAD_BYTES)
        self._counts: NDArray[np.int64] = np.frombuffer(head, np.int64, 2)
        boot = _boot_id()
        if head[16:_HEAD_BYTES] != boot:
            self._counts[0] = self._counts[1]
            head[16:_HEAD_BYTES] = boot

    def __len__(self) -> int:
        return int(self._counts[0])

    @property
    def durable(self) -> int:
        """Rows that survive a power cut."""
        return int(self._counts[1])

    def append(self, begin: int, columns: Mapping[str, Any]) -> None:
        """Write rows from ``begin`` on, of which every column has as many; a scalar stands for all of them.

        Raises:
            StorageError: If the disk is full; nothing was written then.
        """
        end = begin + max(len(values) for values in columns.values() if np.ndim(values))
        for name in columns:
            self._take_room(name, begin, end)
        for name, values in columns.items():
            self._reserved(name, end)[begin:end] = values
        # Last, so that a reader never sees a row before its values.
        self._counts[0] = max(int(self._counts[0]), end)

    def column(self, name: str) -> Array:
        """The rows written so far, [n] or [n, ...], as a view that follows later changes of these rows."""
        rows = len(self)
        return self._reserved(name, rows)[:rows]

    def erase(self, begin: int, end: int, *, but: str | None = None) -> None:
        """Overwrite rows with zeros, in all columns ``but`` one; `flush_rows` brings that to disk."""
        for name in self._types:
            if name != but:
                self._reserved(name, end)[begin:end] = 0

    def flush_rows(self, begin: int, end: int) -> None:
        """Bring some rows to disk."""
        for name in self._types:
            self._reserved(name, end)
            row_bytes = self._row_bytes(name)
            first = begin * row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            self._files[name].flush(first, end * row_bytes - first)

    def flush(self) -> None:
        """Bring all rows to disk, and count them as there."""
        rows, durable = len(self), self.durable
        if rows > durable:
            self.flush_rows(durable, rows)
            sync(self._directory)
            self._counts[1] = rows
            self._files[ROWS_FILE].flush()

    def _take_room(self, name: str, begin: int, end: int) -> None:
        """Have the disk hold what is about to be written: where it is full, writing to a mapped hole is a SIGBUS."""
        row_bytes = self._row_bytes(name)
        held = self._room.get(name, 0)
        if end * row_bytes <= max(held, begin * row_bytes):
            return
        self._reserved(name, end)
        first = max(begin * row_bytes, held)
        upto = min(max(end * row_bytes, first + _ROOM_BYTES), len(self._files[name]))
        path = self._path(name)
        try:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), first, upto - first)
        except OSError as error:
            raise StorageError(f"cannot extend {path}: {error.strerror}") from error
        self._room[name] = upto

    def _row_bytes(self, name: str) -> int:
        dtype, shape = self._types[name]
        return dtype.itemsize * int(np.prod(shape))

    def _path(self, name: str) -> Path:
        return self._directory / (name if name == ROWS_FILE else f"{name}.col")

    def _reserved(self, name: str, rows: int) -> Array:
        """The whole mapped column, with room for ``rows``."""
        array = self._arrays.get(name)
        if array is None or len(array) < rows:
            dtype, shape = self._types[name]
            capacity = _FIRST_CAPACITY
            while capacity < rows:
                capacity *= 2
            mapped = self._map(name, capacity * self._row_bytes(name))
            array = np.frombuffer(mapped, dtype, capacity * int(np.prod(shape))).reshape(capacity, *shape)
            self._arrays[name] = array
        return array

    def _map(self, name: str, size_bytes: int) -> mmap.mmap:
        path = self._path(name)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if os.fstat(handle).st_size < size_bytes:  # never shortened: another process may have mapped more
                    os.truncate(handle, size_bytes)
                    if name == ROWS_FILE:
                        os.posix_fallocate(handle, 0, size_bytes)
                mapped = mmap.mmap(handle, size_bytes)
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageError(f"cannot map {path}: {error.strerror}") from error
        self._files[name] = mapped
        return mapped


def _boot_id() -> bytes:
    """Names this boot of the machine; nothing, where the machine does not say: then only what is durable counts."""
    try:
        return _BOOT_FILE.read_bytes()[:_BOOT_BYTES].ljust(_BOOT_BYTES)
    except OSError:
        return os.urandom(_BOOT_BYTES)
