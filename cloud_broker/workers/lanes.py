"""What waits before each of a worker's threads and before the network's own, and which of them takes what.

A question for samples waits for no disk, and is most of what is asked of a busy worker: the network's thread acts on it
itself. To hand it to another costs a twentieth more, and either then waits for the other's interpreter. Whatever may
wait for a disk or a database goes to a thread, so that nobody else waits for that.
"""

from __future__ import annotations

import queue
import threading
import time
import zlib
from collections import Counter

from cloud_broker.workers.admission import Lane
from cloud_broker.workers.worker_link import Delivery
from protocol.messages import Query

_SWIFT = frozenset({Query.kind})
_HURRY_WAITING = 2  # messages before one thread from which on time counts for more than bytes
_HURRY_LOAD = 0.3  # and share of a processor that the threads together are at work


class Lanes:
    """A lane for each thread, and the last for the network's own; safe to use from several threads.

    Attributes:
        own: Number of the last.
    """

    def __init__(self, threads: int, patience_s: float) -> None:
        """For so many threads, before none of which a message waits longer than ``patience_s`` if it may be put off."""
        self.own = threads
        self._lanes = [Lane(patience_s) for _ in range(threads + 1)]
        self._queues: list[queue.SimpleQueue[Delivery]] = [queue.SimpleQueue() for _ in self._lanes]
        self._of_device: Counter[str] = Counter()  # what waits, or is being acted on; nobody who has nothing
        self._counting = threading.Lock()  # guards the lanes, and the line above

    @property
    def waiting(self) -> int:
        """Messages that wait, or are being acted on."""
        return sum(lane.waiting for lane in self._lanes)

    @property
    def hurried(self) -> bool:
        """Whether there is so much to do that time counts for more than bytes."""
        now_s = time.monotonic()
        load = sum(lane.load(now_s) for lane in self._lanes)
        return load > _HURRY_LOAD or any(lane.waiting > _HURRY_WAITING for lane in self._lanes)

    def admit(self, device: str, kind: str, delivery: Delivery) -> float | None:
        """Let a message wait before its thread, or say in how many seconds there may be room for it."""
        with self._counting:
            number = self._number(device, kind)
            retry_after_s = self._lanes[number].admit(kind, delivery.came_s)
            if retry_after_s is None:
                self._of_device[device] += 1
                self._queues[number].put(delivery)
        return retry_after_s

    def next(self, number: int, timeout_s: float = 0.0) -> Delivery | None:
        """What waits longest in a lane; None if nothing came within ``timeout_s``."""
        try:
            return self._queues[number].get(block=timeout_s > 0, timeout=timeout_s or None)
        except queue.Empty:
            return None

    def empty(self, number: int) -> bool:
        """Whether nothing waits there."""
        return self._queues[number].empty()

    def served(self, number: int, device: str, elapsed_s: float, now_s: float) -> None:
        """Count a device's message out that took its thread so long."""
        with self._counting:
            self._lanes[number].served(elapsed_s, now_s)
            self._left(device)

    def dropped(self, number: int, device: str) -> None:
        """Count one out that was not acted on."""
        with self._counting:
            self._lanes[number].dropped()
            self._left(device)

    def _left(self, device: str) -> None:
        self._of_device[device] -= 1
        if not self._of_device[device]:
            del self._of_device[device]

    def _number(self, device: str, kind: str) -> int:
        """A device's messages have one thread, and so their order; its question passes none that came before."""
        if self.own == 0 or (kind in _SWIFT and device not in self._of_device):
            return self.own
        return zlib.crc32(device.encode()) % self.own
