"""A process of the cloud as the supervisor sees it: `python -m cloud_broker`, its events on standard output."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from cloud_broker.telling import Event
from cloud_broker.workers.child import tied_to_parent
from cloud_broker.workers.restarts import Restarts

News = tuple["Part", Event | None]


class Part:
    """The tender, a worker or a job; started, stopped and started again from one thread.

    Attributes:
        name: For events and errors.
        up: Whether it told that it does its work, since it was started last.
        restarts: How often it had to be started again.
        start_again_s: When to do so (monotonic); None while it runs or is to stay down.
    """

    def __init__(self, name: str, config: Path, arguments: Sequence[str], news: queue.SimpleQueue[News]) -> None:
        """Prepare; its events go to ``news``, and None when it has ended."""
        self.name = name
        self.up = False
        self.restarts = Restarts()
        self.start_again_s: float | None = None
        program = [sys.executable, "-m", "cloud_broker", "--config", str(config), *arguments]
        self._command = program
        self._news = news
        self._process: subprocess.Popen[str] | None = None
        self._began_s = 0.0

    @property
    def exit_code(self) -> int | None:
        """None while it runs, or before."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int | None:
        """Its process's id, while it runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self) -> None:
        """Start it."""
        self.up, self.start_again_s, self._began_s = False, None, time.monotonic()
        # A session of its own: a Ctrl-C at the terminal reaches the supervisor alone, which ends its parts in order.
        self._process = subprocess.Popen(
            tied_to_parent(self._command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=[self._process], name=f"events of {self.name}", daemon=True).start()

    def note_end(self) -> float:
        """It ended by itself: note when to start it again, and say in how many seconds that is."""
        self.up = False
        now_s = time.monotonic()
        delay_s = self.restarts.delay_s(now_s - self._began_s)
        self.start_again_s = now_s + delay_s
        return delay_s

    def ask_to_end(self) -> None:
        """Have it drain and end."""
        self.up, self.start_again_s = False, None
        if self.pid is not None and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended; end it by force after so long."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                try:
                    event = json.loads(line)
                except ValueError:
                    event = {"event": "text", "text": line.rstrip()}  # of a library that prints
                self._news.put((self, event))
        process.wait()
        if process is self._process:
            self._news.put((self, None))
