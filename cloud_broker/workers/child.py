"""Child processes that end with their parent, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Runs in the child: ask the kernel to end it when its parent ends, then become the program. A `preexec_fn` would do the
# same but can deadlock in a process with threads. The second check closes the gap in which the parent dies first.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """``command`` (its program an absolute path) so that it gets SIGTERM when the thread that starts it ends.

    Linux counts the starting thread as the parent, so start it from one that lives as long as the child shall.
    """
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
