"""SIGINT and SIGTERM as an event to wait for, so that whatever runs ends in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that is set by SIGINT or SIGTERM; a second signal acts as it would without us."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        # Not here: the handler runs on the main thread, which may hold the event's lock, on its way into a wait.
        threading.Thread(target=stop.set, name="stop", daemon=True).start()
        restore()

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()
