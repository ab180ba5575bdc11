"""The allocator's settings."""

from __future__ import annotations

import platform
import subprocess
import sys


def test_the_allocator_is_told_where_it_listens() -> None:
    """Glibc takes the settings; another C library is left alone."""
    code = "from edge.memory import return_freed_memory; print(return_freed_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
