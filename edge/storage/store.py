"""Everything that a device remembers, in one folder that one process uses at a time.

{state_dir}/device.db      samples, rounds, outbox, the served model's personal weights
{state_dir}/blobs/         model files and matched samples, by SHA-256
{state_dir}/time.json      the newest time known, see `edge.scheduling.known_time`
{state_dir}/wear.json      bytes written by day, see `edge.storage.wear`
{state_dir}/lock           held while a process uses the folder
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from sqlite3 import Connection

from edge.errors import StoreBusyError
from edge.eventlog import EventLog
from edge.scheduling.known_time import KnownTime, Reading
from edge.storage.blobs import BlobStore
from edge.storage.database import Database
from edge.storage.disk import DiskWatch, store_error
from edge.storage.event_store import EventStore
from edge.storage.round_store import RoundStore
from edge.storage.rows import RowStore
from edge.storage.sample_store import SampleStore
from edge.storage.wear import Wear
from edge.tunnel.outbox import Outbox
from hardware.durable import sweep
from profiling.data_use import DataUse

Clocks = Callable[[], Reading]
_LOOK_S = 0.05


class Store:
    """A device's state; a context manager that lets go of it.

    On a disk that is full or cannot be written what is there can be read; what would change it raises `DiskError`
    until the disk takes it again.

    Attributes:
        folder: Where all of it is.
        disk: Whether the folder can be written.
        samples: The device's own samples.
        events: What an app told, on its way to samples.
        rounds: Rounds, and the served model.
        outbox: Messages on their way to the cloud.
        blobs: Files on their way from the cloud.
        rows: Rows of tables that model files do not hold.
        data_use: What was sent and received.
        log: What happened lately.
        time: What time it surely is.
        wear: Bytes written by day.

    Args:
        state_dir: The folder; made if absent.
        clocks: Reads the machine's clocks; by default `edge.scheduling.known_time.read_clocks`.
        patience_s: How long to wait for a process that uses the folder to go, such as one that was killed just now.

    Raises:
        StoreBusyError: If another process uses the folder.
        StoreError: If the database is damaged, foreign or of a later version, or there is none and none can be made.
    """

    def __init__(self, state_dir: Path, clocks: Clocks | None = None, *, patience_s: float = 0.0) -> None:
        self.folder = state_dir
        self.disk = DiskWatch(state_dir)
        self._lock = _lock(state_dir, patience_s)
        try:
            self._database = Database(state_dir / "device.db", lenient=True)
            self.blobs = BlobStore(state_dir / "blobs")
            sweep(state_dir)
        except BaseException:
            os.close(self._lock)
            raise
        self.samples = SampleStore(self._database)
        self.time = KnownTime(time_file(state_dir), clocks)
        self.wear = Wear(wear_file(state_dir), lambda: self.time.unix_s)
        self.events = EventStore(self._database, self.samples, lambda: self.time.unix_s)
        self.rounds = RoundStore(self._database)
        self.outbox = Outbox(self._database)
        self.rows = RowStore(self._database)
        self.data_use = DataUse(self._database)
        self.log = EventLog(state_dir)

    def transaction(self) -> AbstractContextManager[Connection]:
        """Changes to samples, rounds and outbox that stand or fall together."""
        return self._database.transaction()

    def wiping(self) -> AbstractContextManager[Connection]:
        """As `transaction`; what is deleted is overwritten."""
        return self._database.wiping()

    def close(self) -> None:
        """Close the database and let go of the folder."""
        self._database.close()
        os.close(self._lock)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def time_file(state_dir: Path) -> Path:
    """Where `KnownTime` keeps what it knows."""
    return state_dir / "time.json"


def wear_file(state_dir: Path) -> Path:
    """Where `Wear` keeps its days."""
    return state_dir / "wear.json"


@contextmanager
def alone_in(state_dir: Path) -> Iterator[None]:
    """Nobody else uses the folder while the body runs; for what needs no `Store`, such as deleting a damaged one.

    Raises:
        StoreBusyError: If another process uses the folder.
        StoreError: If it cannot be written.
    """
    lock = _lock(state_dir)
    try:
        yield
    finally:
        os.close(lock)


def _lock(state_dir: Path, patience_s: float = 0.0) -> int:
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _lock_file(state_dir)
    except OSError as error:
        raise store_error(state_dir, f"device store {state_dir}: see that it can be made and written", error) from error
    until_s = time.monotonic() + patience_s
    while not _taken(lock):
        if time.monotonic() >= until_s:
            os.close(lock)
            raise StoreBusyError(f"device store {state_dir}: another process uses it; stop that one first")
        time.sleep(_LOOK_S)
    return lock


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_file(state_dir: Path) -> int:
    """The lock, opened; where it cannot be made, the folder itself, which serves as well."""
    path = state_dir / "lock"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.open(path if path.exists() else state_dir, os.O_RDONLY | os.O_CLOEXEC)
