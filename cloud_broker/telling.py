"""What the cloud's parts tell whoever started them: events, one at a time, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
OnEvent = Callable[[Event], None]


class StoppedEarlyError(Exception):
    """Told to stop during a long piece of work; never leaves the cloud's entry points."""


class Telling:
    """Hands events on, one at a time."""

    def __init__(self, on_event: OnEvent | None) -> None:
        """Hand them to ``on_event``, where there is one."""
        self._on_event = on_event
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Tell one."""
        if self._on_event is not None:
            with self._lock:
                self._on_event(event)

    def unless(self, stop: threading.Event) -> OnEvent:
        """Tells, and ends a long piece of work at its next event once ``stop`` is set."""

        def tell(event: Event) -> None:
            self(event)
            if stop.is_set():
                raise StoppedEarlyError

        return tell
