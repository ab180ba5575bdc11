"""The connection to the broker: MQTT 5 over TLS with a certificate on both sides, kept up by a thread of its own.

A lost connection comes back by itself, with jittered backoff, into the same MQTT session: what was sent and not
acknowledged is sent again, what arrived and was not acknowledged arrives again. Callers therefore only wait, and every
wait ends when they are told to stop.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import EdgeConfig
from edge.errors import CertificateError, StoppedError, UnreachableError
from edge.inbox import Delivery, Inbox
from edge.mqtt import connect, new_client
from edge.sent import Fate, Sent
from edge.tls import refusal_of_certificate
from profiling.network import NetworkBytes
from profiling.traffic import Traffic
from protocol import topics
from protocol.connection import Connection, State
from protocol.envelope import encode
from protocol.errors import MalformedMessageError, OversizeError
from protocol.messages import Chunk, Presence
from protocol.purposes import CONTROL, purpose_of

_LOOP_S = 5.0  # how often paho looks whether a ping is due; anything to send or receive wakes it at once
_WAIT_SLICE_S = 0.2  # how soon a wait notices that it is to stop
_LAST_WAIT_S = 10.0  # for a connection attempt in progress, when closing


class Link:
    """One device's connection; a context manager that closes it.

    Args:
        config: Who we are and where the broker is.
        stop: Once set, every wait raises `StoppedError`.
        on_wait: Called again and again while a caller waits, on the caller's thread.

    Raises:
        CertificateError: If a certificate or key is unreadable.
    """

    def __init__(
        self, config: EdgeConfig, stop: threading.Event | None = None, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        self._config = config
        self._stop = stop or threading.Event()
        self._on_wait = on_wait
        self._closing = threading.Event()
        self._changed = threading.Condition()  # guards everything below, and paho's client while it is usable
        self._connection = Connection()
        self._max_message_bytes = topics.MAX_MESSAGE_BYTES
        self._fault: Exception | None = None
        self._inbox = Inbox()
        self._sent = Sent()
        self._transfer = CONTROL
        self._traffic = Traffic(lambda topic: purpose_of(topic, self._transfer))
        self._client = self._make_client()
        self._keeper = threading.Thread(target=self._keep_connected, name="link", daemon=True)

    def _make_client(self) -> mqtt.Client:
        client = new_client(self._config, self._traffic)
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    @property
    def connections(self) -> int:
        """Connections made so far; a change tells that what was outstanding may have to be asked for again."""
        return self._connection.number

    @property
    def max_chunk_bytes(self) -> int:
        """The largest chunk that fits what the broker takes in one message."""
        return min(self._max_message_bytes, topics.MAX_MESSAGE_BYTES - topics.ENVELOPE_BYTES)

    @property
    def everything_sent(self) -> bool:
        """Whether the broker has taken all that was sent."""
        return self._sent.everything

    def fate(self, sent: int) -> Fate:
        """What became of a message that `send` sent."""
        return self._sent.fate(sent)

    def network(self) -> NetworkBytes:
        """Bytes so far, over all connections."""
        return self._traffic.read()

    def network_by_purpose(self) -> dict[str, NetworkBytes]:
        """The same by purpose, one of `protocol.purposes.PURPOSES`."""
        return self._traffic.by_purpose()

    @contextlib.contextmanager
    def transferring(self, purpose: str) -> Iterator[None]:
        """What the body asks for of blobs counts for this purpose."""
        before, self._transfer = self._transfer, purpose
        try:
            yield
        finally:
            self._transfer = before

    def open(self, timeout_s: float) -> None:
        """Connect and subscribe; returns at once on a link that is open.

        Raises:
            CertificateError: If the broker's certificate or ours is refused.
            UnreachableError: If there is no connection within ``timeout_s``.
            StoppedError: If told to stop.
        """
        if not self._keeper.is_alive():
            self._keeper.start()
        self._wait_usable(timeout_s)

    def send(self, kind: str, payload: bytes, timeout_s: float) -> int:
        """Hand a message to MQTT, which brings it to the broker; opens the link if need be, and waits for it.

        Returns:
            Its number, for `fate`.

        Raises:
            OversizeError: If the broker takes no message that large.
            UnreachableError, CertificateError, StoppedError: As `open`.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self.open(deadline_s - time.monotonic())
            with self._changed:
                if len(payload) > self._max_message_bytes:
                    raise OversizeError(f"message {kind}", len(payload), self._max_message_bytes)
                if self._usable:  # it may have been lost since; paho's client must be left alone while it connects
                    return self._publish(kind, payload)

    def read_shared(self, sha256: str, chunks: Sequence[int], timeout_s: float) -> None:
        """Have the broker send these chunks of a shared blob, if it has them; once, on one connection.

        Raises:
            UnreachableError, CertificateError, StoppedError: As `open`.
        """
        topic_options = [(self._shared(sha256, index), SubscribeOptions(qos=0)) for index in chunks]
        deadline_s = time.monotonic() + timeout_s
        while True:
            self.open(deadline_s - time.monotonic())
            with self._changed:
                if self._usable:
                    self._client.subscribe(topic_options)
                    return

    def leave_shared(self, sha256: str, chunks: Sequence[int]) -> None:
        """Be told no more of these chunks."""
        with self._changed:
            if self._usable and chunks:
                self._client.unsubscribe([self._shared(sha256, index) for index in chunks])

    def _shared(self, sha256: str, index: int) -> str:
        return topics.shared_chunk(self._config.fleet, sha256, index)

    def receive(self, timeout_s: float, connection: int | None = None) -> Delivery | None:
        """The next message, or None if none arrives within ``timeout_s``.

        Args:
            timeout_s: How long to wait.
            connection: Number of the connection by which one is expected; there is no waiting once there is another.

        Raises:
            StoppedError: If told to stop.
        """

        def done() -> bool:
            renewed = connection is not None and self._usable and self._connection.number != connection
            return renewed or len(self._inbox) > 0

        self._wait(done, timeout_s)
        with self._changed:
            delivery = self._inbox.take()
            if self._inbox.has_room_again():
                self._client.disconnect()  # what was turned away comes again on the next connection
            return delivery

    def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that what the message says is on disk. One of an earlier connection will come again."""
        with self._changed:
            if delivery.mid and self._usable and delivery.connection == self._connection.number:
                self._client.ack(delivery.mid, 1)

    def close(self) -> None:
        """Say that we go offline, as far as the connection allows, and disconnect."""
        self._closing.set()
        with self._changed:
            if self._connection.close():
                self._publish(Presence.kind, encode(Presence(False), uuid.uuid4().hex), qos=0, retain=True)
            self._client.disconnect()
        if self._keeper.is_alive():
            self._keeper.join(_LAST_WAIT_S)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _usable(self) -> bool:
        return self._connection.usable

    def _publish(self, kind: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        topic = topics.up(self._config.fleet, self._config.device, kind)
        mid = self._client.publish(topic, payload, qos=qos, retain=retain).mid
        if qos > 0:
            self._sent.handed_over(mid)
        self._traffic.add_payload(topic, up=len(payload))
        return mid

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not done():
                if self._stop.is_set():
                    raise StoppedError("told to stop")
                self._on_wait()
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, _WAIT_SLICE_S))
        return True

    def _wait_usable(self, timeout_s: float) -> None:
        ready = self._wait(lambda: self._usable or isinstance(self._fault, CertificateError), timeout_s)
        if isinstance(self._fault, CertificateError):
            raise self._fault
        if not ready:
            raise UnreachableError(f"{self._where}: {self._fault or 'no answer'}; is it up, and reachable from here?")

    @property
    def _where(self) -> str:
        return f"broker {self._config.host}:{self._config.port}"

    # All below runs on the keeper's thread.

    def _keep_connected(self) -> None:
        while not self._closing.is_set():
            with self._changed:
                self._connection.begin()
            self._connect_once()
            with self._changed:
                self._connection.lost()
                delay_s = self._connection.delay_s(random.random())  # noqa: S311 - jitter, not a secret
            self._closing.wait(delay_s)

    def _connect_once(self) -> None:
        try:
            connect(self._client, self._config)
        except (OSError, ValueError) as error:
            self._note_fault(error)
            return
        while self._client.loop(_LOOP_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            with self._changed:
                expecting = not self._sent.everything
                dead = self._connection.dead(time.monotonic(), self._traffic.progress(), expecting=expecting)
            if dead:
                self._break_off()

    def _break_off(self) -> None:
        """End a half-open connection without a goodbye, which would not get through."""
        self._note_fault(ConnectionError("it has gone silent"))
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _note_fault(self, fault: Exception) -> None:
        refusal = refusal_of_certificate(fault)
        with self._changed:
            self._fault = fault if refusal is None else CertificateError(f"{self._where}: {refusal}")
            self._changed.notify_all()

    def _on_socket_open(self, _client: mqtt.Client, _userdata: Any, connection: Any) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._traffic.opened(connection)

    def _on_socket_close(self, _client: mqtt.Client, _userdata: Any, _connection: Any) -> None:
        self._traffic.closing()

    def _on_connect(self, client: mqtt.Client, _userdata: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._note_fault(ConnectionRefusedError(f"it refuses this device: {reason}"))
            client.disconnect()
            return
        limit_bytes = getattr(properties, "MaximumPacketSize", None)
        with self._changed:
            if limit_bytes is not None:
                self._max_message_bytes = min(limit_bytes - topics.ENVELOPE_BYTES, topics.MAX_MESSAGE_BYTES)
            if not self._connection.connected():
                client.disconnect()
                return
        client.subscribe(topics.device_filter(self._config.fleet, self._config.device), qos=1)

    def _on_subscribe(self, client: mqtt.Client, _userdata: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        if self._connection.state is not State.SUBSCRIBING:
            return  # to a shared chunk; one that may not be read is asked of the cloud in time
        if reasons[0].is_failure:
            self._note_fault(ConnectionRefusedError(f"it lets this device read nothing: {reasons[0]}"))
            client.disconnect()
            return
        with self._changed:
            if self._connection.subscribed():
                self._publish(Presence.kind, encode(Presence(True), uuid.uuid4().hex), retain=True)
                self._fault = None
                self._changed.notify_all()

    def _on_disconnect(self, _client: mqtt.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        with self._changed:
            if not self._usable and self._fault is None:
                self._note_fault(self._traffic.fault or ConnectionError(f"it closed the connection ({reason})"))
            self._connection.lost()

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        try:
            shared = topics.is_shared_chunk(message.topic, self._config.fleet)
            kind = Chunk.kind if shared else topics.parse(message.topic).kind
        except MalformedMessageError:
            return  # not of our subscription
        if shared and not message.payload:
            return  # the cloud shares this chunk no more
        with self._changed:
            delivery = Delivery(kind, bytes(message.payload), message.mid, self._connection.number, time.monotonic())
            if self._inbox.put(delivery):
                self._traffic.add_payload(message.topic, down=len(delivery.payload))
                self._changed.notify_all()

    def _on_publish(self, _client: mqtt.Client, _userdata: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._sent.acknowledged(mid, reason.value)  # under a lock of the client's: wait for none of ours here
