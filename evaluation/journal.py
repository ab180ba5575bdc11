"""A study's rows on disk, so that a run that was stopped goes on where it was.

A folder holds ``study.json``, what the rows must have in common, and for every cell ``rows/CELL.json``, who its
devices are, and ``rows/CELL.jsonl``, one line a device, appended whole as soon as it is known. A line that a power cut
tore is passed over: that device is tried again. One process at a time writes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.errors import JournalError
from evaluation.plan import Cell
from evaluation.scores import DeviceRow

STUDY_FILE = "study.json"
_ROWS_FOLDER = "rows"


@dataclass(frozen=True)
class CellFacts:
    """What a cell's split came to.

    Attributes:
        users: All that could be devices.
        skipped_users: Users who would be devices and have nothing to be tested by.
        one_class_users: Devices whose test samples have one label, so that they have no AUC.
        empty_users: Devices without a local sample.
        pool_samples: What h0 was trained on.
    """

    users: tuple[int, ...]
    skipped_users: int
    one_class_users: int
    empty_users: int
    pool_samples: int


class Journal:
    """The rows of one study.

    Args:
        folder: Made if it is not there.
        identity: Plain values; what is there already must have the same.

    Raises:
        JournalError: If the folder holds another study.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        (folder / _ROWS_FOLDER).mkdir(parents=True, exist_ok=True)
        described = folder / STUDY_FILE
        if not described.exists():
            write_whole(described, json.dumps(identity, indent=2, sort_keys=True) + "\n")
        self._check(described, identity)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other process writes here.

        Raises:
            JournalError: If another one does.
        """
        with (self.folder / _ROWS_FOLDER / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise JournalError(
                    f"{self.folder}: another run writes here; wait for it, or give another --out"
                ) from error
            yield

    def expect(self, cell: Cell, facts: CellFacts) -> None:
        """Note who the cell's devices are."""
        write_whole(self._file(cell, "json"), json.dumps(asdict(facts)) + "\n")

    def expected(self, cell: Cell) -> CellFacts | None:
        """What `expect` noted; None if nothing yet."""
        file = self._file(cell, "json")
        if not file.exists():
            return None
        values = json.loads(file.read_text())
        return CellFacts(**{**values, "users": tuple(values["users"])})

    def add(self, cell: Cell, row: DeviceRow) -> None:
        """Append a row, in one write."""
        line = json.dumps(row.to_dict(), separators=(",", ":")) + "\n"
        with self._file(cell, "jsonl").open("a") as file:
            file.write(line)

    def rows(self, cell: Cell) -> dict[int, DeviceRow]:
        """The rows so far, by user; the arms of several runs joined."""
        file = self._file(cell, "jsonl")
        found: dict[int, DeviceRow] = {}
        for line in file.read_text().splitlines() if file.exists() else ():
            try:
                row = DeviceRow.from_dict(json.loads(line))
            except (ValueError, TypeError, KeyError):
                continue
            found[row.user] = found[row.user].joined(row) if row.user in found else row
        self._mend(file)
        return found

    def _file(self, cell: Cell, suffix: str) -> Path:
        return self.folder / _ROWS_FOLDER / f"{cell}.{suffix}"

    def _mend(self, file: Path) -> None:
        # What is appended next must not become part of a torn line.
        if file.exists() and file.stat().st_size and not file.read_bytes().endswith(b"\n"):
            with file.open("a") as end:
                end.write("\n")

    def _check(self, described: Path, identity: Mapping[str, Any]) -> None:
        try:
            there = json.loads(described.read_text())
        except ValueError as error:
            raise JournalError(f"{described}: not JSON ({error}); give another --out") from error
        wanted = json.loads(json.dumps(identity))
        if there != wanted:
            differ = sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))
            raise JournalError(
                f"{self.folder}: holds another study (it differs in {', '.join(differ)}); "
                "give another --out, or delete it"
            )


def write_whole(path: Path, text: str) -> None:
    """Write a file such that it has its old content or all of the new."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(path)
