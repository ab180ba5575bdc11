"""The allocator's settings."""

from __future__ import annotations

import platform
import subprocess
import sys


def test_the_allocator_is_told_where_it_listens() -> None:
    """Glibc takes the settings; another C library is left alone."""
    code = "from edge.memory import give_back, return_freed_memory; print(return_freed_memory(), give_back())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    glibc = platform.libc_ver()[0] == "glibc"
    assert done.stdout.split() == [str(glibc), str(glibc)]
