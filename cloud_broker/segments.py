"""Records appended to files that only grow. Where each record lies is its owner's to remember, durably."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_broker.errors import StorageError
from cloud_broker.files import make_private_directory, sync_directory

SEGMENT_BYTES = 64 << 20


@dataclass(frozen=True)
class Location:
    """Where a record lies."""

    segment: int
    offset: int
    length: int


class SegmentLog:
    """A folder of segments, ``00000001.seg`` and up; one writer."""

    def __init__(self, directory: Path, end: Location | None) -> None:
        """Open the folder, or create it.

        Args:
            directory: Where the segments are.
            end: The last record that its owner remembers; what a crash left behind it is cut off. None for none.
        """
        self._directory = make_private_directory(directory)
        self._segment = end.segment if end else 1
        self._end = end.offset + end.length if end else 0
        path = self._path(self._segment)
        if path.exists() and path.stat().st_size > self._end:  # a shorter one is damaged, and reading it will say so
            os.truncate(path, self._end)

    def append(self, records: Sequence[bytes]) -> list[Location]:
        """Write records; they are on disk when this returns.

        Raises:
            StorageError: If the disk fails; nothing was appended then, as far as later calls see.
        """
        if self._end >= SEGMENT_BYTES:
            self._segment, self._end = self._segment + 1, 0
        path = self._path(self._segment)
        try:
            with path.open("r+b" if path.exists() else "x+b") as file:
                file.seek(self._end)
                file.writelines(records)
                file.flush()
                os.fsync(file.fileno())
            if self._end == 0:
                sync_directory(self._directory)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        locations = []
        for record in records:
            locations.append(Location(self._segment, self._end, len(record)))
            self._end += len(record)
        return locations

    def read(self, location: Location) -> bytes:
        """One record.

        Raises:
            StorageError: If its file is gone, unreadable or cut short.
        """
        path = self._path(location.segment)
        try:
            with path.open("rb") as file:
                file.seek(location.offset)
                data = file.read(location.length)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        if len(data) != location.length:
            raise StorageError(f"{path} ends before byte {location.offset + location.length}: restore it from a backup")
        return data

    def erase(self, location: Location) -> None:
        """Overwrite a record with zeros; on disk when this returns. A file that is gone is no error.

        Raises:
            StorageError: If the disk fails.
        """
        path = self._path(location.segment)
        try:
            with path.open("r+b") as file:
                file.seek(location.offset)
                file.write(bytes(location.length))
                file.flush()
                os.fsync(file.fileno())
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"cannot erase in {path}: {error.strerror}") from error

    def _path(self, segment: int) -> Path:
        return self._directory / f"{segment:08d}.seg"
