"""What is written to: a device, or an image file. Reading goes past the page cache, to what the medium holds."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType

from hardware.errors import TargetError, WriteError

# O_DIRECT wants buffer, offset and length aligned to the medium's blocks; no medium has larger ones.
_ALIGN = 4096


class Target(ABC):
    """A medium by offsets in bytes. Every method may raise OSError: the medium is gone, full or broken."""

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """How much it holds."""

    @abstractmethod
    def write(self, at: int, data: bytes) -> None:
        """Write all of ``data``."""

    @abstractmethod
    def read(self, at: int, size: int) -> bytes:
        """What the medium holds, not what the kernel remembers to have written."""

    @abstractmethod
    def sync(self) -> None:
        """Return when everything written is on the medium."""


class FileTarget(Target):
    """A target that is open as a file of the kernel's; use as a context.

    Attributes:
        reads_direct: Whether `read` bypassed the page cache (O_DIRECT), rather than asking the kernel to drop it.
    """

    def __init__(self, path: Path, handle: int, *, skip_zeros: bool = False) -> None:
        self._handle = handle
        self._skip_zeros = skip_zeros
        self._size = os.lseek(handle, 0, os.SEEK_END)
        self._direct = _open_direct(path)
        self.reads_direct = self._direct is not None

    def __enter__(self) -> FileTarget:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)
        if self._direct is not None:
            os.close(self._direct)

    @property
    def size_bytes(self) -> int:
        """How much it holds."""
        return self._size

    def write(self, at: int, data: bytes) -> None:
        """Write all of ``data``; zeros stay holes in a new image file."""
        if self._skip_zeros and data.count(0) == len(data):
            return
        view = memoryview(data)
        while view:
            done = os.pwrite(self._handle, view, at)
            view, at = view[done:], at + done

    def sync(self) -> None:
        """Wait for the medium."""
        os.fsync(self._handle)

    def read(self, at: int, size: int) -> bytes:
        """Read past the page cache.

        Raises:
            WriteError: If the medium ends early.
        """
        data = self._read_direct(at, size) if self._direct is not None else self._read_dropped(at, size)
        if len(data) != size:
            raise WriteError(f"only {len(data)} of {size} bytes at {at} could be read back")
        return data

    def _read_dropped(self, at: int, size: int) -> bytes:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._handle, at, size, os.POSIX_FADV_DONTNEED)
        return os.pread(self._handle, size, at)

    def _read_direct(self, at: int, size: int) -> bytes:
        start = at - at % _ALIGN
        end = at + size + (-(at + size)) % _ALIGN
        assert self._direct is not None
        try:
            with mmap.mmap(-1, end - start) as buffer:  # anonymous memory begins on a page
                got = 0
                while got < at + size - start:
                    with memoryview(buffer) as view:
                        done = os.preadv(self._direct, [view[got:]], start + got)
                    if done == 0:
                        break
                    got += done
                return buffer[at - start : min(at + size - start, got)]
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # The file system takes the flag and not the reads.
            os.close(self._direct)
            self._direct, self.reads_direct = None, False
            return self._read_dropped(at, size)


def open_device(path: Path, *, emulated: bool = False) -> FileTarget:
    """Open a whole disk for oneself alone: the kernel refuses (O_EXCL) while anything of it is mounted or in use.

    Args:
        path: The device, such as ``/dev/sdb``.
        emulated: It is a regular file in a tree of tests' own, and must be one.

    Raises:
        TargetError: If it is not a block device, is in use, or may not be opened.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if emulated else os.O_EXCL)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        hint = {errno.EBUSY: "it is in use", errno.EACCES: "run as root, or be in the group `disk`"}
        raise TargetError(f"{path}: {hint.get(error.errno or 0, error.strerror)}; nothing was written") from error
    mode = os.fstat(handle).st_mode
    if not (stat.S_ISREG(mode) if emulated else stat.S_ISBLK(mode)):
        os.close(handle)
        raise TargetError(f"{path}: not a {'regular file' if emulated else 'block device'}; nothing was written")
    return FileTarget(path, handle)


def create_image(path: Path, size_bytes: int) -> FileTarget:
    """Make a sparse image file of mode 0600, for it holds a token.

    Raises:
        TargetError: If the path exists, or cannot be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise TargetError(f"{path} exists; name a new file (a device is written by --device)") from error
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from error
    os.ftruncate(handle, size_bytes)
    return FileTarget(path, handle, skip_zeros=True)


def _open_direct(path: Path) -> int | None:
    direct = getattr(os, "O_DIRECT", None)
    if direct is None:
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | direct)
    except OSError:
        return None
