"""Keeps the news of native libraries off standard error, and what is wrong on it.

TensorFlow and the runtimes write to file descriptor 2 what no setting of theirs turns off: that an option was ignored,
that a delegate was made. Nobody can act on it, and it hides the one line that matters.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_NEWS = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d [\d:.]+: [IW] |INFO: |WARNING: All log messages before absl::InitializeLog"
    rb"|To enable the following instructions: "  # the second line of a message
)


@contextmanager
def without_news() -> Iterator[None]:
    """Hold back what is written to descriptor 2 meanwhile; at the end, let through what is not news.

    What Python itself writes to ``sys.stderr`` is not held back.
    """
    sys.stderr.flush()
    real, python_stderr = os.dup(2), sys.stderr
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        if python_stderr is sys.__stderr__:
            sys.stderr = os.fdopen(os.dup(real), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        try:
            yield
        finally:
            if sys.stderr is not python_stderr:
                sys.stderr.close()
                sys.stderr = python_stderr
            os.dup2(real, 2)
            os.close(real)
            _let_through(held)


def _let_through(held: IO[bytes]) -> None:
    held.seek(0)
    for line in held:
        if not _NEWS.match(line):
            os.write(2, line)
