"""When to start a process again that ended: at once the first time, ever later where it does not stay up."""

from __future__ import annotations

FIRST_S, MOST_S = 0.5, 30.0
STEADY_S = 60.0


class Restarts:
    """One process's; no clocks.

    Attributes:
        count: How often it was started again.
    """

    def __init__(self) -> None:
        self.count = 0
        self._in_a_row = 0

    def delay_s(self, ran_s: float) -> float:
        """Seconds to wait before starting it again, after it ran for so long."""
        self.count += 1
        self._in_a_row = 0 if ran_s >= STEADY_S else self._in_a_row + 1
        return 0.0 if self._in_a_row <= 1 else min(FIRST_S * 2.0 ** min(self._in_a_row - 2, 30), MOST_S)
