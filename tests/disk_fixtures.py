"""A small file system of its own: a real ext4 on a loop device."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_SIZE_BYTES = 128 << 20  # sparse
_TOOLS = ("mkfs.ext4", "mount", "umount", "findmnt")


class SmallDisk:
    """A mounted ext4 whose errors turn it read-only.

    Attributes:
        path: Its root.
    """

    def __init__(self, folder: Path) -> None:
        image, self.path = folder / "disk.img", folder / "disk"
        self.path.mkdir()
        self._ballast = self.path / "ballast"
        with image.open("wb") as file:
            file.truncate(_SIZE_BYTES)
        _do("mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-O", "^has_journal", image)
        _do("mount", "-o", "loop,errors=remount-ro", image, self.path)

    def fill(self) -> None:
        """Leave not a block."""
        with self._ballast.open("wb", buffering=0) as file:
            for size_bytes in (1 << 20, 4096, 1024):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size_bytes)):
                        pass

    def make_room(self) -> None:
        """Undo `fill`."""
        self._ballast.unlink()

    def remount(self, mode: str) -> None:
        """``ro`` or ``rw``; nobody may be writing."""
        _do("mount", "-o", f"remount,{mode}", self.path)

    def fail(self) -> None:
        """Have the kernel find an error, whereupon it lets nobody write any more, whoever has files open."""
        device = Path(_do("findmnt", "-no", "SOURCE", self.path).strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")

    def close(self) -> None:
        """Unmount it, with the last process that uses it; its loop device goes too."""
        _do("umount", "--lazy", self.path)


def _do(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """One, where this machine allows it."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"mounts need root, and {', '.join(_TOOLS)}; missing: {missing}")
    try:
        disk = SmallDisk(tmp_path)
    except OSError as error:
        pytest.skip(f"no loop device can be mounted here: {error}")
    try:
        yield disk
    finally:
        disk.close()
