"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker_fixtures import fleet_broker, own_broker, peer

__all__ = ["fleet_broker", "own_broker", "peer"]

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 << 30

# A shell has what it starts in the background ignore SIGINT, and children would inherit that; a handler they do not.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _has_room(folder: Path) -> bool:
    """Whether files and programs of tests can lie in a folder."""
    if not os.access(folder, os.W_OK) or os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(folder).free >= _ROOM_BYTES


# The tests' models are tiny: threads inside an operation cost more than they save, and other tests run beside.
for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")

# Much of the code waits until each file is on the disk, as it must. Tests kill processes and not the machine, so they
# see the same from files in memory, and take a fraction of the time.
if "TMPDIR" not in os.environ and _has_room(_MEMORY):
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


# What is imported and collected stays to the end: looking through it again and again for garbage takes a third as long
# as the imports themselves, and later slows every test that makes many objects.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage again, among what tests make."""
    gc.freeze()
    gc.enable()


# A process gets file after file: quick ones come last, so that none is left alone with a long one at the end.
_QUICK_ROOMS = ("flash", "hardware", "house", "profiling", "protocol")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of quick rooms behind all others."""
    items.sort(key=lambda item: item.path.parent.name in _QUICK_ROOMS)


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A folder on a disk, for what a disk is measured with."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="coda-test-") as folder:
        yield Path(folder)
