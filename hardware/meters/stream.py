"""A meter as a sensor: a thread reads it all the time, connects again when it was unplugged, and keeps what came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from hardware.errors import MeterError, SensorError
from hardware.meters.meter import Meter, Reading
from hardware.sensor import Source, StreamSensor

_MOST_KEPT = 100_000
_RETRY_S = 1.0


class MeterStream(StreamSensor):
    """Reads a meter in the background until it is closed.

    Args:
        connect: Opens the meter; called again after every fault.
        retry_s: Pause before connecting again.

    Attributes:
        reconnects: How often the meter was opened again.
        repeated: Readings dropped because the meter only repeated itself.

    Raises:
        MeterError: If the meter cannot be opened the first time.
    """

    def __init__(self, connect: Callable[[], Meter], retry_s: float = _RETRY_S) -> None:
        self._connect = connect
        self._retry_s = retry_s
        self._meter: Meter | None = connect()
        self.source: Source = self._meter.source
        self.latency_s = self._meter.latency_s
        self.still_s = self._meter.still_s
        self.lost = self.repeated = self.reconnects = self.faults = 0
        self.fault: str | None = None
        self._lost_before = self._repeated_before = 0
        self._kept: deque[Reading] = deque(maxlen=_MOST_KEPT)
        self._last_s = -float("inf")
        self._stop = threading.Event()
        self._arrived = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"meter {self.source.name}", daemon=True)
        self._thread.start()

    def drain(self) -> list[tuple[float, float]]:
        """Times and milliwatts that arrived since the last call; see `StreamSensor.drain`."""
        return [(reading.at_s, reading.watts * 1000) for reading in self.drain_readings()]

    def drain_readings(self) -> list[Reading]:
        """The same with volts and amperes."""
        self._arrived.clear()
        readings = []
        while self._kept:
            readings.append(self._kept.popleft())
        return readings

    def wait(self, timeout_s: float) -> bool:
        """Wait until something has arrived since the last drain, and say whether it has."""
        return self._arrived.wait(timeout_s)

    def close(self) -> None:
        """End the thread and give the port back."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                meter = self._open()
                self._keep(meter.read())
                self.lost, self.repeated = self._lost_before + meter.lost, self._repeated_before + meter.repeated
            except SensorError as error:
                self.faults += 1
                self.fault = str(error)
                self._drop()
                self._stop.wait(self._retry_s)
        self._drop()

    def _open(self) -> Meter:
        if self._meter is None:
            meter = self._connect()
            if meter.source != self.source:
                meter.close()
                raise MeterError(self.source.name, f"another meter answers now: {meter.source.name}")
            self._meter = meter
            self.reconnects += 1
            self._lost_before, self._repeated_before = self.lost, self.repeated
        return self._meter

    def _drop(self) -> None:
        if self._meter is not None:
            self._meter.close()
            self._meter = None

    def _keep(self, readings: list[Reading]) -> None:
        for reading in readings:
            if reading.at_s > self._last_s:
                self._kept.append(reading)
                self._last_s = reading.at_s
        self._arrived.set()
