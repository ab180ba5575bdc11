"""SIGTERM at the worst moment."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from edge.signals import stop_on_signals


def test_a_signal_on_the_way_into_a_wait_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler runs on the thread that holds the event's lock; setting the event there would wait for ever."""
    with stop_on_signals() as stop:
        condition: Any = stop._cond  # type: ignore[attr-defined]
        enter = condition.wait

        def interrupted(timeout: float | None = None) -> bool:
            signal.raise_signal(signal.SIGTERM)  # the lock is held here
            return bool(enter(timeout))

        monkeypatch.setattr(condition, "wait", interrupted)
        assert stop.wait(60.0)
