"""A thread that reads probes about ten times a second while something is being measured, and rests otherwise."""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from hardware.errors import SensorError
from profiling.series import Series

DEFAULT_HZ = 10.0
_JITTER = 0.25  # of the period, so that samples do not keep step with a periodic load
_LINGER_S = 1.0  # spares a new thread for the next phase
_SLOW_READ_S = 0.005


class Probe(ABC):
    """One quantity that is sampled over time.

    Attributes:
        series: Its samples.
        faults: Readings that failed.
        fault: What the last of them said.
    """

    def __init__(self, name: str, most_hz: float | None = None) -> None:
        self.series = Series(name)
        self.faults = 0
        self.fault: str | None = None
        self._period_s = 0.0 if most_hz is None else 1 / most_hz
        self._last_s = -float("inf")
        self._cost_s = 0.0
        self._lock = threading.Lock()

    @abstractmethod
    def read(self) -> float:
        """The quantity now.

        Raises:
            SensorError: If it cannot be read.
        """

    def sample(self, clock: Callable[[], float] = time.monotonic, *, wait: bool = True) -> bool:
        """Take a sample unless the last one is too young to differ, and say whether one was taken.

        Args:
            clock: Monotonic seconds.
            wait: Whether to wait for a reading under way elsewhere, and to start one that is known to be slow.
        """
        if not wait and self._cost_s > _SLOW_READ_S:
            return False
        if not self._lock.acquire(blocking=wait):
            return False
        try:
            return self._take(clock)
        finally:
            self._lock.release()

    def _take(self, clock: Callable[[], float]) -> bool:
        begin_s = clock()
        if begin_s - self._last_s < self._period_s:
            return False
        try:
            value = self.read()
        except SensorError as error:
            self.faults += 1
            self.fault = str(error)
            return False
        end_s = clock()
        self._cost_s, self._last_s = end_s - begin_s, begin_s
        # The value is as of some moment while it was being read.
        self.series.append((begin_s + end_s) / 2, value)
        return True


class Gauge(Probe):
    """A probe that reads by a function."""

    def __init__(self, name: str, read: Callable[[], float], most_hz: float | None = None) -> None:
        super().__init__(name, most_hz)
        self._read = read

    def read(self) -> float:
        """What the function says; see `Probe.read`."""
        return self._read()


class Sampler:
    """Samples probes on a thread of its own while it is held.

    Args:
        probes: What to sample.
        hz: Samples a second, on average; a probe that renews itself more slowly is sampled as often as it does.
        clock: Monotonic seconds.
        seed: Seeds the jitter.

    Attributes:
        probes: What is sampled.
        cpu_s: Processor seconds that the thread has used.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        hz: float = DEFAULT_HZ,
        clock: Callable[[], float] = time.monotonic,
        seed: int = 1,
    ) -> None:
        self.probes = tuple(probes)
        self._period_s = 1 / hz
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 (jitter, not a secret)
        self._wake = threading.Condition()
        self._holders = 0
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.cpu_s = 0.0

    def hold(self) -> None:
        """Sample until as many `release` have come."""
        with self._wake:
            self._holders += 1
            self._wake.notify_all()
            if self.probes and not self._stopped and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
                self._thread.start()

    def release(self) -> None:
        """End one `hold`; the thread lingers a moment and then ends by itself."""
        with self._wake:
            self._holders -= 1
            self._wake.notify_all()

    def edge(self) -> None:
        """Sample at once what reads fast, at the edge of a window."""
        for probe in self.probes:
            probe.sample(self._clock, wait=False)

    def stop(self) -> None:
        """End the thread now and for good."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            begin_s = time.thread_time()
            for probe in self.probes:
                probe.sample(self._clock)
            self.cpu_s += time.thread_time() - begin_s
            pause_s = self._period_s * self._random.uniform(1 - _JITTER, 1 + _JITTER)
            with self._wake:
                self._wake.wait_for(lambda: self._stopped or not self._holders, timeout=pause_s)
                self._wake.wait_for(lambda: self._stopped or self._holders, timeout=_LINGER_S)
                if self._stopped or not self._holders:
                    self._thread = None
                    return
