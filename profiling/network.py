"""Counters of a connection's bytes, at three depths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkBytes:
    """Bytes since the connection's counters began, or a difference of two such readings.

    Attributes:
        payload_up: Bytes of message payloads sent, before MQTT frames them.
        payload_down: The same, received.
        mqtt_up: Bytes of MQTT packets sent, before TLS.
        mqtt_down: The same, received.
        tcp_up: Bytes the kernel's TCP sent for this connection, TLS included, headers not; None if not counted.
        tcp_down: The same, received.
    """

    payload_up: int = 0
    payload_down: int = 0
    mqtt_up: int = 0
    mqtt_down: int = 0
    tcp_up: int | None = None
    tcp_down: int | None = None

    def __add__(self, other: NetworkBytes) -> NetworkBytes:
        return self._combine(other, 1)

    def __sub__(self, other: NetworkBytes) -> NetworkBytes:
        return self._combine(other, -1)

    def _combine(self, other: NetworkBytes, sign: int) -> NetworkBytes:
        def tcp(mine: int | None, theirs: int | None) -> int | None:
            return None if mine is None or theirs is None else mine + sign * theirs

        return NetworkBytes(
            self.payload_up + sign * other.payload_up,
            self.payload_down + sign * other.payload_down,
            self.mqtt_up + sign * other.mqtt_up,
            self.mqtt_down + sign * other.mqtt_down,
            tcp(self.tcp_up, other.tcp_up),
            tcp(self.tcp_down, other.tcp_down),
        )


ReadNetwork = Callable[[], NetworkBytes]
"""Reads the cumulative counters of the process's connections; must never fall."""
