"""Counting a connection's bytes at three depths: message payloads, MQTT packets, and what TCP carries."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
from typing import Any

from profiling.network import NetworkBytes

# Places of u64 fields in struct tcp_info of linux/tcp.h. The first two exist since 4.1, the last, which counts what was
# sent again too, since 4.19.
_BYTES_ACKED_AT, _BYTES_RECEIVED_AT, _BYTES_SENT_AT = 120, 128, 200
_TCP_INFO_BYTES = 208


class Traffic:
    """Bytes of all of a link's connections, one at a time.

    Attributes:
        fault: The last TLS fault met while reading: what the broker said when it broke the connection off.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._payload = self._mqtt = self._tcp = (0, 0)
        self._counts_tcp = sys.platform.startswith("linux")
        self._socket: socket.socket | None = None
        self.fault: ssl.SSLError | None = None

    def add_payload(self, *, up: int = 0, down: int = 0) -> None:
        """Count a message's payload."""
        with self._lock:
            self._payload = _add(self._payload, (up, down))

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
                traffic._add_mqtt(sent, 0)
                return sent

            def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
                try:
                    data = super().recv(buflen, flags)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except ssl.SSLError as error:
                    traffic.fault = error  # TLS 1.3 refuses a certificate here, where the MQTT client hides why
                    raise
                traffic._add_mqtt(0, len(data))
                return data

        return CountingSocket

    def opened(self, connection: socket.socket) -> None:
        """Begin to count a connection's TCP bytes."""
        with self._lock:
            self._socket, self.fault = connection, None

    def closing(self) -> None:
        """Keep what the open connection carried; call it while its socket still is one."""
        with self._lock:
            self._tcp, self._socket = self._tcp_total(), None

    def read(self) -> NetworkBytes:
        """Bytes so far."""
        with self._lock:
            tcp = self._tcp_total() if self._counts_tcp else (None, None)
            return NetworkBytes(*self._payload, *self._mqtt, *tcp)

    def _add_mqtt(self, up: int, down: int) -> None:
        with self._lock:
            self._mqtt = _add(self._mqtt, (up, down))

    def _tcp_total(self) -> tuple[int, int]:
        if self._socket is None or not self._counts_tcp:
            return self._tcp
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            sent_at = _BYTES_SENT_AT if len(info) >= _TCP_INFO_BYTES else _BYTES_ACKED_AT
            (up,), (down,) = struct.unpack_from("=Q", info, sent_at), struct.unpack_from("=Q", info, _BYTES_RECEIVED_AT)
        except (OSError, struct.error):  # closed under us, or a kernel that does not count
            self._counts_tcp = False
            return self._tcp
        return _add(self._tcp, (up, down))


def _add(total: tuple[int, int], more: tuple[int, int]) -> tuple[int, int]:
    return total[0] + more[0], total[1] + more[1]
