"""A bounded time series: when it is full, every other sample goes and the rest keep covering the whole time."""

from __future__ import annotations

from array import array

MOST_SAMPLES = 20_000


class Series:
    """Samples of one quantity, in the order they were taken.

    Attributes:
        name: The quantity, its unit at the end, such as ``power_mw:rapl`` or ``temperature_c:cpu``.
        thinned: How often every other sample was dropped.
    """

    def __init__(self, name: str, most: int = MOST_SAMPLES) -> None:
        self.name = name
        self.thinned = 0
        self._most = most
        self._times = array("d")
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._times)

    def append(self, at_s: float, value: float) -> None:
        """Add a sample taken at ``at_s`` on the monotonic clock."""
        if len(self._times) >= self._most:
            self._times, self._values = self._times[::2], self._values[::2]
            self.thinned += 1
        self._times.append(at_s)
        self._values.append(value)

    def copy(self) -> tuple[array[float], array[float]]:
        """Times in seconds and values."""
        return self._times[:], self._values[:]
