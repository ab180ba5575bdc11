"""Counting a connection's bytes at three depths, message payloads, MQTT packets and what TCP carries, by purpose."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from profiling.network import NetworkBytes
from protocol.mqtt_packets import PacketMeter
from protocol.purposes import CONTROL, PURPOSES

# Places of u64 fields in struct tcp_info of linux/tcp.h. The first two exist since 4.1, the last, which counts what was
# sent again too, since 4.19.
_BYTES_ACKED_AT, _BYTES_RECEIVED_AT, _BYTES_SENT_AT = 120, 128, 200
_TCP_INFO_BYTES = 208
_WAYS = tuple(f.name for f in fields(NetworkBytes))


class Traffic:
    """Bytes of all of a link's connections, one at a time.

    Attributes:
        fault: The last TLS fault met while reading: what the broker said when it broke the connection off.

    Args:
        purpose_of_topic: What a message under a topic is for, one of `protocol.purposes.PURPOSES`.
    """

    def __init__(self, purpose_of_topic: Callable[[str], str]) -> None:
        self._lock = threading.Lock()
        self._purpose_of_topic = purpose_of_topic
        self._counts = {purpose: dict.fromkeys(_WAYS, 0) for purpose in PURPOSES}
        self._up, self._down = PacketMeter(purpose_of_topic), PacketMeter(purpose_of_topic)
        self._tcp = (0, 0)
        self._marked = self._copy()  # as it was when TCP's bytes were last shared out
        self._counts_tcp = sys.platform.startswith("linux")
        self._socket: socket.socket | None = None
        self._greeting = False
        self.fault: ssl.SSLError | None = None

    def add_payload(self, topic: str, *, up: int = 0, down: int = 0) -> None:
        """Count the payload of a message under ``topic``."""
        with self._lock:
            purpose = self._purpose_of_topic(topic)
            self._add(purpose, "payload_up", up)
            self._add(purpose, "payload_down", down)

    def socket_class(self) -> type[ssl.SSLSocket]:
        """A class for `ssl.SSLContext.sslsocket_class` whose sockets count what passes through TLS."""
        traffic = self

        class CountingSocket(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:
                try:
                    super().do_handshake(block)
                except BaseException:
                    self.close()  # the MQTT client would leave it open
                    raise

            def send(self, data: Any, flags: int = 0) -> int:
                sent = super().send(data, flags)
                traffic._passed(up=memoryview(data)[:sent])
                return sent

            def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
                try:
                    data = super().recv(buflen, flags)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except ssl.SSLError as error:
                    traffic.fault = error  # TLS 1.3 refuses a certificate here, where the MQTT client hides why
                    raise
                traffic._passed(down=data)
                return data

        return CountingSocket

    def opened(self, connection: socket.socket) -> None:
        """Begin to count a connection's TCP bytes."""
        with self._lock:
            self._socket, self.fault, self._greeting = connection, None, True

    def closing(self) -> None:
        """Keep what the open connection carried; call it while its socket still is one."""
        with self._lock:
            for meter, way in ((self._up, "mqtt_up"), (self._down, "mqtt_down")):
                for purpose, count in meter.end().items():
                    self._add(purpose, way, count)
            self._apportion()
            self._tcp, self._socket = self._tcp_total(), None

    def read(self) -> NetworkBytes:
        """Bytes so far."""
        with self._lock:
            return self._total()

    def progress(self) -> int:
        """A number that changes while the open connection moves bytes: what came, and what the peer says it has."""
        with self._lock:
            return self._sum("mqtt_down") + (self._acked() if self._counts_tcp else self._sum("mqtt_up"))

    def by_purpose(self) -> dict[str, NetworkBytes]:
        """Bytes so far by purpose; they sum to `read`.

        Payload and MQTT bytes are each message's own. TCP's cannot be told apart: what was added since the last call is
        shared out by the MQTT bytes added meanwhile, in each direction; what there is without any, as when a connection
        is made, is control.
        """
        with self._lock:
            self._apportion()
            found = {purpose: NetworkBytes(**count) for purpose, count in self._counts.items()}
        if self._counts_tcp:
            return found
        return {purpose: replace(count, tcp_up=None, tcp_down=None) for purpose, count in found.items()}

    def _passed(self, *, up: bytes | memoryview = b"", down: bytes | memoryview = b"") -> None:
        with self._lock:
            if self._greeting:
                self._apportion()  # TLS' handshake was nobody's message
                self._greeting = False
            for purpose, count in self._up.feed(up).items():
                self._add(purpose, "mqtt_up", count)
            for purpose, count in self._down.feed(down).items():
                self._add(purpose, "mqtt_down", count)

    def _add(self, purpose: str, way: str, count: int) -> None:
        self._counts[purpose][way] += count

    def _sum(self, way: str) -> int:
        return sum(count[way] for count in self._counts.values())

    def _copy(self) -> dict[str, dict[str, int]]:
        return {purpose: dict(count) for purpose, count in self._counts.items()}

    def _total(self) -> NetworkBytes:
        up, down = self._tcp_total() if self._counts_tcp else (None, None)
        return NetworkBytes(**{way: self._sum(way) for way in _WAYS[:4]}, tcp_up=up, tcp_down=down)

    def _apportion(self) -> None:
        for way, total in zip(("up", "down"), self._tcp_total(), strict=True):
            weights = {p: count[f"mqtt_{way}"] - self._marked[p][f"mqtt_{way}"] for p, count in self._counts.items()}
            for purpose, share in _shares(total - self._sum(f"tcp_{way}"), weights).items():
                self._add(purpose, f"tcp_{way}", share)
        self._marked = self._copy()

    def _acked(self) -> int:
        try:
            info = self._tcp_info() if self._socket else b""
            return int(struct.unpack_from("=Q", info, _BYTES_ACKED_AT)[0])
        except (OSError, struct.error):
            return 0

    def _tcp_info(self) -> bytes:
        assert self._socket is not None
        return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)

    def _tcp_total(self) -> tuple[int, int]:
        if self._socket is None or not self._counts_tcp:
            return self._tcp
        try:
            info = self._tcp_info()
            sent_at = _BYTES_SENT_AT if len(info) >= _TCP_INFO_BYTES else _BYTES_ACKED_AT
            (up,), (down,) = struct.unpack_from("=Q", info, sent_at), struct.unpack_from("=Q", info, _BYTES_RECEIVED_AT)
        except (OSError, struct.error):  # closed under us, or a kernel that does not count
            self._counts_tcp = False
            return self._tcp
        return self._tcp[0] + up, self._tcp[1] + down


def _shares(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """``total`` in proportion to the weights, in whole numbers that sum to it; what is left over is control."""
    whole = sum(weights.values())
    shares = {purpose: total * weight // whole for purpose, weight in weights.items()} if whole > 0 else {}
    shares[CONTROL] = shares.get(CONTROL, 0) + total - sum(shares.values())
    return shares
