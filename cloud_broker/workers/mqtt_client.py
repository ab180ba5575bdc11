"""A worker's MQTT 5 client: one thread that reads and writes whatever there is at once, and comes back when it is lost.

Devices speak MQTT by paho-mqtt. A worker hears and says thousands of small messages a second, and with paho, which
reads a packet in several calls and writes each alone, that took a quarter of its time; this takes a tenth
(docs/scale.md, "Where the time goes"): packets are read from whole TLS records, and what was said since the last write
goes out in one.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cloud_broker.workers.mqtt_outbox import Outbox, Waker
from profiling.traffic import Traffic
from protocol import mqtt_codec as mqtt
from protocol.errors import MalformedMessageError

KEEPALIVE_S = 60
_SESSION_EXPIRY_S = 7 * 24 * 3600
_CONNECT_TIMEOUT_S = 10.0
_FIRST_DELAY_S, _LAST_DELAY_S = 1.0, 8.0
_READ_BYTES = 64 << 10
_READ_AT_ONCE = 512  # packets, before anything else is looked after


@dataclass(frozen=True)
class Heard:
    """What a client's owner is told of, on the client's thread: nothing of it may wait.

    Attributes:
        connected: The broker let us in; says which connection this is, from 1.
        answered: A packet that is no PUBLISH arrived.
        published: A PUBLISH arrived, and by which connection.
        lost: There is no connection any more, or it did not come about, and why.
    """

    connected: Callable[[int], None]
    answered: Callable[[mqtt.Packet], None]
    published: Callable[[mqtt.Packet, int], None]
    lost: Callable[[str], None]


class MqttClient:
    """One connection at a time; safe to say something by from several threads."""

    def __init__(
        self, client_id: str, host: str, port: int, *, new_context: Callable[[], ssl.SSLContext], traffic: Traffic,
        receive_maximum: int, heard: Heard, between: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        """Prepare.

        Args:
            client_id: Who connects.
            host: The broker's name or address, as in its certificate.
            port: The broker's port.
            new_context: Gives what to connect with; asked before each connection.
            traffic: Counts the connection's bytes.
            receive_maximum: Messages that the broker may have handed over without our acknowledgement.
            heard: Told what happens.
            between: Does one thing that waits to be done, on the client's thread between reading and writing, and says
                whether there is more; not called while much is on its way. What it publishes does not wait.
        """
        self._client_id, self._host, self._port = client_id, host, port
        self._new_context, self._traffic = new_context, traffic
        self._receive_maximum, self._heard, self._between = receive_maximum, heard, between
        self._outbox = Outbox(self._wake)
        self._waker: Waker | None = None  # until there is somebody to wake
        self._over = False
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._first: ssl.SSLSocket | None = None

    @property
    def connection(self) -> int:
        """Number of the connection that there is, or was last; 0 before the first."""
        return self._outbox.connection

    def start(self) -> None:
        """Connect; what the broker says of it is `Heard`.

        Raises:
            OSError: If it cannot be reached, or is not who it should be.
        """
        self._first = self._connect()
        self._waker = Waker()
        self._thread.start()

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """See `Outbox.publish`."""
        wait = threading.current_thread() is not self._thread
        return self._outbox.publish(topic, payload, qos=qos, retain=retain, expiry_s=expiry_s, wait=wait)

    def say(self, packet: bytes, connection: int | None = None) -> None:
        """See `Outbox.say`."""
        self._outbox.say(packet, connection)

    def subscribe(self, topic: str) -> None:
        """Subscribe on the connection that there is."""
        self.say(mqtt.subscribe(mqtt.MAX_MID, topic))

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe on the connection that there is."""
        self.say(mqtt.unsubscribe(mqtt.MAX_MID, topic))

    def give_up(self) -> None:
        """Let nothing wait for room any more, and do not come back if the connection is lost."""
        self._outbox.give_up()

    def close(self, timeout_s: float, *, forget: bool) -> None:
        """Let out what is on its way, and disconnect.

        Args:
            timeout_s: For the first.
            forget: Whether the broker is to forget our session, and with it what it has for us.
        """
        self.give_up()
        self._outbox.wait_until_said(timeout_s)
        self.say(mqtt.disconnect(forget=forget))
        self._outbox.wait_until_written(timeout_s)
        self._over = True
        if self._waker is not None:
            self._waker.wake()
            self._thread.join()
            self._waker.close()
        self._outbox.lose()

    def _wake(self) -> None:
        if self._waker is not None and threading.current_thread() is not self._thread:
            self._waker.wake()

    # Below: on the client's own thread.

    def _run(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._outbox.closing:
            begun = self.connection
            try:
                self._talk(self._first or self._connect())
            except (OSError, MalformedMessageError) as error:
                self._lost(str(error))
            self._first = None
            delay_s = _FIRST_DELAY_S if self.connection > begun else min(2 * delay_s, _LAST_DELAY_S)
            self._outbox.rest(delay_s)

    def _connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection((self._host, self._port), _CONNECT_TIMEOUT_S)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = self._new_context().wrap_socket(raw, server_hostname=self._host)
        except BaseException:
            raw.close()
            raise
        self._traffic.opened(line)
        return line

    def _lost(self, reason: str) -> None:
        self._outbox.lose()
        self._heard.lost(reason)

    def _talk(self, line: ssl.SSLSocket) -> None:
        with line:
            try:
                line.sendall(
                    mqtt.connect(
                        self._client_id,
                        keepalive_s=KEEPALIVE_S,
                        receive_maximum=self._receive_maximum,
                        session_expiry_s=_SESSION_EXPIRY_S,
                    )
                )
                line.setblocking(False)
                self._exchange(line, mqtt.Reader())
            finally:
                self._traffic.closing()

    def _exchange(self, line: ssl.SSLSocket, reader: mqtt.Reader) -> None:
        poll = select.poll()
        assert self._waker is not None
        woken_by, heard_by = self._waker.readable.fileno(), line.fileno()
        poll.register(woken_by, select.POLLIN)
        heard_s = said_s = time.monotonic()
        stuck = more = False
        while True:
            poll.register(heard_by, select.POLLIN | select.POLLOUT * stuck)
            ready = [one for one, _ in poll.poll(0 if more else KEEPALIVE_S / 4 * 1e3)]
            if woken_by in ready:
                self._waker.heard()
            now_s = time.monotonic()
            for packet in self._read(line, reader) if heard_by in ready else ():
                heard_s = now_s
                self._take(packet)
            more = self._between is not None and self._outbox.roomy and self._between()
            if now_s - heard_s > 1.5 * KEEPALIVE_S:
                raise TimeoutError(f"the broker is silent since {now_s - heard_s:.0f} s")
            if now_s - said_s > KEEPALIVE_S / 2:
                self.say(mqtt.pingreq())
            sent, stuck = self._write(line)
            said_s = now_s if sent else said_s
            if self._over:
                return

    def _read(self, line: ssl.SSLSocket, reader: mqtt.Reader) -> list[mqtt.Packet]:
        packets: list[mqtt.Packet] = []
        try:
            while len(packets) < _READ_AT_ONCE:
                data = line.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("the broker closed the connection")
                packets += reader.feed(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return packets

    def _write(self, line: ssl.SSLSocket) -> tuple[bool, bool]:
        """Send what there is: whether anything was sent, and whether some is left that the line does not take now."""
        data, at = self._outbox.next_bytes(), 0
        try:
            while at < len(data):
                at += line.send(memoryview(data)[at:])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return at > 0, self._outbox.written(at)

    def _take(self, packet: mqtt.Packet) -> None:
        if packet.kind == mqtt.PUBLISH:
            self._heard.published(packet, self.connection)
            return
        if packet.kind == mqtt.CONNACK and packet.reason < mqtt.FAILURE:
            self._outbox.begin(packet.receive_maximum)
            self._heard.connected(self.connection)
        elif packet.kind in (mqtt.CONNACK, mqtt.DISCONNECT):
            raise ConnectionRefusedError(f"the broker refuses us (reason {packet.reason:#x})")
        elif packet.kind == mqtt.PUBACK:
            self._outbox.acknowledged(packet.mid)
        self._heard.answered(packet)
