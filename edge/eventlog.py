"""What happened on the device lately, as lines of JSON in two files of bounded size: the newer, and the one before."""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 256 << 10
_QUIET = frozenset({"progress"})  # too many, and the phases around them tell enough


class EventLog:
    """Appends; the older file goes when the newer is full. What cannot be written is left out: a log stops nothing."""

    def __init__(self, folder: Path, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._newer, self._older = folder / "events.jsonl", folder / "events.1.jsonl"
        self._max_file_bytes = max_file_bytes
        self._lock = threading.Lock()

    def write(self, event: dict[str, Any]) -> None:
        """Keep an event, with the time of day."""
        if event.get("event") in _QUIET:
            return
        line = json.dumps({"unix_s": round(time.time(), 3), **event}, separators=(",", ":")) + "\n"
        with self._lock:
            try:
                if self._newer.exists() and self._newer.stat().st_size + len(line) > self._max_file_bytes:
                    self._newer.replace(self._older)
                handle = os.open(self._newer, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                with os.fdopen(handle, "w") as file:
                    file.write(line)
            except OSError:
                return

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for path in (self._older, self._newer):
                path.unlink(missing_ok=True)

    def packed(self, max_bytes: int) -> bytes:
        """The newest lines, packed with zlib into at most ``max_bytes``."""
        with self._lock:
            text = b"".join(path.read_bytes() for path in (self._older, self._newer) if path.exists())
        packed = zlib.compress(text)
        while len(packed) > max_bytes and text:
            text = text[len(text) // 2 :].partition(b"\n")[2]
            packed = zlib.compress(text)
        return packed
