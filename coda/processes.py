"""Child processes of the demo: each prints one JSON event a line, and none outlives its parent."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from cloud_broker.workers.child import tied_to_parent
from coda.errors import ChildFailedError

_STOP_GRACE_S = 10.0
_LOG_TAIL_LINES = 6

Event = dict[str, Any]


class CodaProcess:
    """`coda ARGUMENTS --json` in a process of its own; use it as a context manager.

    The child leads its own session, so a Ctrl-C at the terminal reaches the parent alone, which then ends its children
    in order. Its standard error goes to ``log``.

    Attributes:
        name: For messages.
        events: What it printed, in order; the source of each item is this process. None marks its end.
    """

    def __init__(
        self, name: str, arguments: list[str], log: Path, events: queue.Queue[tuple[str, Event | None]]
    ) -> None:
        self.name = name
        self.events = events
        self._log_path = log
        self._command = tied_to_parent([sys.executable, "-m", "coda", *arguments, "--json"])
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> CodaProcess:
        with self._log_path.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name=f"events of {self.name}", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": "text", "text": line.rstrip()}
            self.events.put((self.name, event))
        self._process.wait()
        self.events.put((self.name, None))

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """Ask it to end; after a grace period, end it."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._reader is not None:
            self._reader.join()
        if process.stdout is not None:
            process.stdout.close()

    def failure(self) -> ChildFailedError:
        """An error that tells the exit code and the last lines of its log."""
        lines = self._log_path.read_text(errors="replace").strip().splitlines()[-_LOG_TAIL_LINES:]
        tail = "\n  ".join(lines) or "(it printed nothing)"
        return ChildFailedError(
            f"{self.name} ended with exit code {self.exit_code}; the end of {self._log_path}:\n  {tail}"
        )
