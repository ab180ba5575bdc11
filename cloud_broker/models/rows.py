"""The rows of a published model's large table: one file, mapped, so that memory does not grow with the catalogue."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import BlobCorruptError, StorageError, UnknownModelError
from cloud_broker.files import make_private_directory
from hardware.durable import sync
from protocol.errors import MalformedMessageError
from protocol.rows import ROWS_PER_SHARD, RowBlock, TableRows, rows_version
from protocol.samples import SampleBatch
from protocol.slots import SlotMap


class RowFile:
    """Rows of one version; safe to use from several threads.

    Attributes:
        table: What they are.
    """

    def __init__(self, path: Path, table: TableRows, model_sha256: str) -> None:
        """Map the file and check that it holds the rows of that version.

        Raises:
            StorageError: If it is not there.
            BlobCorruptError: If it does not hold these rows, or they are not that model's.
        """
        self.table = table
        try:
            self._values: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot read the rows of {table.table} in {path}: {error}") from error
        fits = self._values.dtype == np.float32 and self._values.shape == (table.vocabulary, table.width)
        if not fits or rows_version(self._values, model_sha256) != table.version:
            raise BlobCorruptError(f"{path} does not hold the rows of {table.table} of the published model")

    def rows(self, version: str, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Rows of ``ids``, float32 [n, width].

        Raises:
            UnknownModelError: If they are asked for in another version.
        """
        if version != self.table.version:
            raise UnknownModelError(
                f"rows of version {version[:12]}, this cloud serves {self.table.version[:12]}: sync the task"
            )
        return self._values[ids]

    def shards(self, version: str, shards: tuple[int, ...]) -> RowBlock:
        """All rows of ascending shards.

        Raises:
            UnknownModelError: If they are asked for in another version.
            MalformedMessageError: If there is no such shard.
        """
        if shards[-1] >= self.table.shards:
            raise MalformedMessageError(f"rows: no shard {shards[-1]}, the table has {self.table.shards}")
        first = np.array(shards, np.int64)[:, np.newaxis] * ROWS_PER_SHARD
        ids = (first + np.arange(ROWS_PER_SHARD)).ravel()
        ids = ids[ids < self.table.vocabulary].astype(np.int32)
        return RowBlock(version, ids, self.rows(version, ids))

    def of_samples(self, samples: SampleBatch) -> RowBlock:
        """The rows of the samples' items, as many as a device has slots for."""
        slots = SlotMap(samples.schema, self.table)
        slots.admit(samples)
        ids = np.sort(slots.ids)
        return RowBlock(self.table.version, ids, self.rows(self.table.version, ids))


def write_rows(path: Path, values: NDArray[np.float32]) -> None:
    """Write float32 [vocabulary, width] as a file that can be mapped: whole, or not there.

    Raises:
        StorageError: If the disk fails.
    """
    temporary = path.with_suffix(".part")
    try:
        make_private_directory(path.parent)
        with temporary.open("wb") as file:
            np.save(file, np.ascontiguousarray(values, "<f4"), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write rows {path}: {error.strerror}") from error
