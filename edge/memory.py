"""Keeping a small board's memory small: what is freed goes back to the system."""

from __future__ import annotations

import ctypes
import gc

# Parameters of mallopt(3) in glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE_BYTES = 64 << 10


def return_freed_memory() -> bool:
    """Have glibc give large freed blocks back at once, and share one arena among threads; call it first in a process.

    Left alone, glibc raises its thresholds as large arrays come and go, and keeps what they leave: 3 MB of a round.

    Returns:
        Whether the C library is one that can; others are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = {_M_MMAP_THRESHOLD: _LARGE_BYTES, _M_TRIM_THRESHOLD: _LARGE_BYTES, _M_ARENA_MAX: 1}
    return [mallopt(name, value) for name, value in settings.items()] == [1, 1, 1]


def give_back() -> bool:
    """Return what a start left free between what it keeps: 3 MB where Python had to compile the program first.

    Returns:
        Whether the C library is one that can.
    """
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return False
    trim(0)
    return True
