"""Whether the served model has aged: its loss on the newest samples against its loss when the gate let it through."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

RECENT_SAMPLES = 200
LEAST_SAMPLES = 50


class Drift:
    """Losses of recent samples, each told before the model learnt from it.

    Args:
        expected: The model's mean log-loss on the gate's hold-out; None where there was no hold-out, so that its first
            `LEAST_SAMPLES` stand for it.
    """

    def __init__(self, expected: float | None) -> None:
        self._expected = expected
        self._first: list[float] = []
        self._recent: deque[float] = deque(maxlen=RECENT_SAMPLES)

    def see(self, losses: Iterable[float]) -> None:
        """Take in the losses of new samples."""
        for loss in losses:
            if self._expected is None:
                self._first.append(loss)
                if len(self._first) == LEAST_SAMPLES:
                    self._expected = float(np.mean(self._first))
            else:
                self._recent.append(loss)

    @property
    def value(self) -> float | None:
        """Mean recent loss above the expected; None while there are too few samples."""
        if self._expected is None or len(self._recent) < LEAST_SAMPLES:
            return None
        return float(np.mean(self._recent)) - self._expected
