"""A worker's MQTT 5 client: one thread that reads and writes whatever there is at once, and comes back when it is lost.

A worker hears and says thousands of small messages a second. So packets are read from whole TLS records, and what was
said since the last write goes out in one. Messages at QoS 1 are kept until the broker has them and said again on the
next connection.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from profiling.traffic import Traffic
from protocol import mqtt_codec as mqtt
from protocol.errors import MalformedMessageError

KEEPALIVE_S = 60
_SESSION_EXPIRY_S = 7 * 24 * 3600
_CONNECT_TIMEOUT_S = 10.0
_FIRST_DELAY_S, _LAST_DELAY_S = 1.0, 8.0
_MAX_UNDER_WAY = 128  # messages at QoS 1 that the broker does not have yet: 8 MB of chunks
_MAX_UNSENT_BYTES = 8 << 20
_READ_BYTES = 64 << 10
_WRITE_BYTES = 256 << 10
_WAKE_S = 0.2

_Message = tuple[str, bytes, bool, int | None]  # topic, payload, whether it is retained, seconds until it expires


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
    """One connection at a time; safe to say something by from several threads.

    Attributes:
        connection: Number of the connection that there is, or was last.
    """

    def __init__(
        self, client_id: str, host: str, port: int, *, new_context: Callable[[], ssl.SSLContext], traffic: Traffic,
        receive_maximum: int, heard: Heard,
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
        """
        self._client_id, self._host, self._port = client_id, host, port
        self._new_context, self._traffic = new_context, traffic
        self._receive_maximum, self._heard = receive_maximum, heard
        self.connection = 0
        self._changed = threading.Condition()  # guards what follows
        self._unsent = bytearray()
        self._under_way: OrderedDict[int, _Message] = OrderedDict()
        self._waiting: deque[_Message] = deque()
        self._may_be_under_way = _MAX_UNDER_WAY
        self._mid = 0
        self._online = self._closing = self._over = False
        self._woken = True  # until there is somebody to wake
        self._wakers: tuple[socket.socket, socket.socket] | None = None
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._first: ssl.SSLSocket | None = None

    def start(self) -> None:
        """Connect; what the broker says of it is `Heard`.

        Raises:
            OSError: If it cannot be reached, or is not who it should be.
        """
        self._first = self._connect()
        self._wakers = socket.socketpair()
        for end in self._wakers:
            end.setblocking(False)
        self._woken = False
        self._thread.start()

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Hand a message over; waits while too many are on their way.

        Returns:
            Whether it was handed over; once `close` was called nothing waits.
        """
        with self._changed:
            while len(self._under_way) + len(self._waiting) >= _MAX_UNDER_WAY or len(self._unsent) > _MAX_UNSENT_BYTES:
                if self._closing:
                    return False
                self._changed.wait(_WAKE_S)
            if qos:
                self._waiting.append((topic, payload, retain, expiry_s))
                self._send_waiting()
            elif self._online:
                self._unsent += mqtt.publish(topic, payload, retain=retain, expiry_s=expiry_s)
        self._wake()
        return True

    def say(self, packet: bytes, connection: int | None = None) -> None:
        """Send a packet at once; nothing where there is no connection, or another than the one named."""
        with self._changed:
            if self._online and connection in (None, self.connection):
                self._unsent += packet
        self._wake()

    def subscribe(self, topic: str) -> None:
        """Subscribe on the connection that there is."""
        self.say(mqtt.subscribe(mqtt.MAX_MID, topic))

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe on the connection that there is."""
        self.say(mqtt.unsubscribe(mqtt.MAX_MID, topic))

    def give_up(self) -> None:
        """Let nothing wait for room any more, and do not come back if the connection is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self, timeout_s: float, *, forget: bool) -> None:
        """Let out what is on its way, and disconnect.

        Args:
            timeout_s: For the first.
            forget: Whether the broker is to forget our session, and with it what it has for us.
        """
        self.give_up()
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while self._online and (self._unsent or self._under_way or self._waiting):
                if not self._changed.wait(max(0.0, deadline_s - time.monotonic())):
                    break
        self.say(mqtt.disconnect(forget=forget))
        with self._changed:
            self._changed.wait_for(lambda: not (self._online and self._unsent), timeout_s)
            self._online, self._over = False, True
        self._wake()
        if self._wakers is not None:
            self._thread.join()
            for end in self._wakers:
                end.close()

    def _wake(self) -> None:
        if threading.current_thread() is self._thread or self._woken:
            return
        self._woken = True
        assert self._wakers is not None
        with contextlib.suppress(OSError):  # full: it is awake; closed: it is over
            self._wakers[1].send(b"\0")

    def _send_waiting(self) -> None:
        """With the lock held: send what may be under way."""
        while self._online and self._waiting and len(self._under_way) < self._may_be_under_way:
            message = self._waiting.popleft()
            self._mid = self._mid % (mqtt.MAX_MID - 1) + 1  # the last one is for subscriptions
            self._under_way[self._mid] = message
            self._unsent += _encoded(message, self._mid)

    # Below: on the client's own thread.

    def _run(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._closing:
            begun = self.connection
            try:
                self._talk(self._first or self._connect())
            except (OSError, MalformedMessageError) as error:
                self._lost(str(error))
            self._first = None
            delay_s = _FIRST_DELAY_S if self.connection > begun else min(2 * delay_s, _LAST_DELAY_S)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, delay_s)

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
        with self._changed:
            self._online = False
            self._unsent.clear()
            self._changed.notify_all()
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
        assert self._wakers is not None
        poll.register(self._wakers[0], select.POLLIN)
        heard_s = said_s = time.monotonic()
        stuck = False
        while True:
            poll.register(line, select.POLLIN | select.POLLOUT * stuck)
            poll.poll(KEEPALIVE_S / 4 * 1e3)
            self._sleep_no_more()
            now_s = time.monotonic()
            for packet in self._read(line, reader):
                heard_s = now_s
                self._take(packet)
            if now_s - heard_s > 1.5 * KEEPALIVE_S:
                raise TimeoutError(f"the broker is silent since {now_s - heard_s:.0f} s")
            if now_s - said_s > KEEPALIVE_S / 2:
                self.say(mqtt.pingreq())
            sent, stuck = self._write(line)
            said_s = now_s if sent else said_s
            if self._over:
                return

    def _sleep_no_more(self) -> None:
        self._woken = False
        assert self._wakers is not None
        with contextlib.suppress(BlockingIOError):
            while self._wakers[0].recv(4096):
                pass

    def _read(self, line: ssl.SSLSocket, reader: mqtt.Reader) -> list[mqtt.Packet]:
        packets: list[mqtt.Packet] = []
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while not packets or line.pending():
                data = line.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("the broker closed the connection")
                packets += reader.feed(data)
        return packets

    def _write(self, line: ssl.SSLSocket) -> tuple[bool, bool]:
        """Send what there is: whether anything was sent, and whether some is left that the line does not take now."""
        with self._changed:
            data = bytes(self._unsent[:_WRITE_BYTES])
        at = 0
        try:
            while at < len(data):
                at += line.send(memoryview(data)[at:])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        with self._changed:
            del self._unsent[:at]
            if at:
                self._changed.notify_all()
            return at > 0, bool(self._unsent)

    def _take(self, packet: mqtt.Packet) -> None:
        if packet.kind == mqtt.PUBLISH:
            self._heard.published(packet, self.connection)
            return
        if packet.kind == mqtt.CONNACK and packet.reason < mqtt.FAILURE:
            self._begin(packet.receive_maximum)
            self._heard.connected(self.connection)
        elif packet.kind in (mqtt.CONNACK, mqtt.DISCONNECT):
            raise ConnectionRefusedError(f"the broker refuses us (reason {packet.reason:#x})")
        elif packet.kind == mqtt.PUBACK:
            with self._changed:
                self._under_way.pop(packet.mid, None)
                self._send_waiting()
                self._changed.notify_all()
        self._heard.answered(packet)

    def _begin(self, receive_maximum: int) -> None:
        with self._changed:
            self.connection += 1
            self._online = True
            self._may_be_under_way = min(_MAX_UNDER_WAY, receive_maximum)
            for mid, message in self._under_way.items():
                self._unsent += _encoded(message, mid, again=True)
            self._send_waiting()


def _encoded(message: _Message, mid: int, *, again: bool = False) -> bytes:
    topic, payload, retain, expiry_s = message
    return mqtt.publish(topic, payload, mid, retain=retain, again=again, expiry_s=expiry_s)
