"""Training lets serving go first: between two steps it waits while a request is being answered.

A step takes less than a millisecond, so a request waits for at most that. Priorities of the system's scheduler would
not do instead: a thread of low priority that holds the interpreter's lock when it is put aside holds up everybody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINGER_S = 0.002  # after an answer: the next request of the same page is often under way
MOST_WAIT_S = 0.25  # a step: under a flood of requests training goes on, slowly
_LOOK_S = 0.5


class Turnstile:
    """Requests enter; training passes when nobody is inside, and the turnstile is not closed.

    Attributes:
        waits: How often training waited.

    Args:
        stop: Whoever waits at a closed turnstile is let through when it is set, to find out that it is to stop.
        on_wait: Called again and again while training waits, on its thread.
    """

    def __init__(self, stop: threading.Event | None = None, on_wait: Callable[[], None] = lambda: None) -> None:
        self.waits = 0
        self._on_wait = on_wait
        self._stop = stop or threading.Event()
        self._inside = 0
        self._closed = False
        self._change = threading.Condition()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """A request that is being answered."""
        with self._change:
            self._inside += 1
            self._change.notify_all()
        try:
            yield
        finally:
            with self._change:
                self._inside -= 1
                self._change.notify_all()

    def close(self) -> None:
        """Hold training up until `open`."""
        self._closed = True

    def open(self) -> None:
        """Let training go on."""
        with self._change:
            self._closed = False
            self._change.notify_all()

    def let_pass(self) -> None:
        """Called before each step of training; returns at once where nothing is in its way."""
        if not self._inside and not self._closed:  # read without the lock: who comes now waits for one step
            return
        self.waits += 1
        self._on_wait()
        with self._change:
            while self._closed and not self._stop.is_set():
                self._on_wait()
                self._change.wait(_LOOK_S)
            while self._change.wait_for(self._empty, MOST_WAIT_S) and self._change.wait_for(self._busy, LINGER_S):
                pass

    def _empty(self) -> bool:
        return not self._inside

    def _busy(self) -> bool:
        return self._inside > 0
