"""Records appended to files that only grow. Where each record lies is its owner's to remember, durably."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_broker.errors import StorageError
from cloud_broker.files import make_private_directory
from hardware.durable import sync

SEGMENT_BYTES = 64 << 20


@dataclass(frozen=True)
class Location:
    """Where a record lies."""

    segment: int
    offset: int
    length: int


class SegmentLog:
    """A folder of segments, ``00000001.seg`` and up; one writer at a time."""

    def __init__(self, directory: Path) -> None:
        """Open the folder, or create it."""
        self._directory = make_private_directory(directory)

    def cut(self, end: Location | None) -> None:
        """Cut off what a crash left behind the last record that its owner remembers; None for none."""
        path = self._path(end.segment if end else 1)
        size = end.offset + end.length if end else 0
        if path.exists() and path.stat().st_size > size:
            os.truncate(path, size)

    def check(self, ends: Sequence[Location]) -> None:
        """See that segments are there and as long as their last records say.

        Raises:
            StorageError: If one is gone or cut short.
        """
        for end in ends:
            path = self._path(end.segment)
            if not path.exists() or path.stat().st_size < end.offset + end.length:
                raise StorageError(f"{path} is missing or cut short: restore it from a backup")

    def append(self, records: Sequence[bytes], end: Location | None) -> list[Location]:
        """Write records behind the last one that their owner remembers; they are on disk when this returns.

        Raises:
            StorageError: If the disk fails; nothing was appended then, as far as later calls see.
        """
        segment, at = (end.segment, end.offset + end.length) if end else (1, 0)
        if at >= SEGMENT_BYTES:
            segment, at = segment + 1, 0
        path = self._path(segment)
        try:
            with path.open("r+b" if path.exists() else "x+b") as file:
                file.seek(at)
                file.writelines(records)
                file.flush()
                os.fsync(file.fileno())
            if at == 0:
                sync(self._directory)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        locations = []
        for record in records:
            locations.append(Location(segment, at, len(record)))
            at += len(record)
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

    def erase(self, locations: Sequence[Location]) -> None:
        """Overwrite records with zeros; on disk when this returns. A file that is gone is no error.

        Raises:
            StorageError: If the disk fails.
        """
        by_segment: dict[int, list[Location]] = {}
        for location in locations:
            by_segment.setdefault(location.segment, []).append(location)
        for segment, mine in by_segment.items():
            self._overwrite(self._path(segment), mine)

    def _overwrite(self, path: Path, locations: Sequence[Location]) -> None:
        try:
            with path.open("r+b") as file:
                for location in locations:
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
