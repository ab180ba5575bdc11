"""The connection to the broker: MQTT 5 over TLS with a certificate on both sides, kept up by a thread of its own.

A lost connection comes back by itself, with jittered backoff, into the same MQTT session: what was sent and not
acknowledged is sent again, what arrived and was not acknowledged arrives again. Callers therefore only wait, and every
wait ends when they are told to stop.
"""

from __future__ import annotations

import random
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import EdgeConfig
from edge.errors import CertificateError, StoppedError, UnreachableError
from edge.inbox import Delivery, Inbox
from edge.tls import device_context, refusal_of_certificate, use_newest
from edge.wire import Traffic
from profiling.network import NetworkBytes
from protocol import topics
from protocol.envelope import encode
from protocol.errors import MalformedMessageError
from protocol.messages import Chunk, Presence

KEEPALIVE_S = 60
SESSION_EXPIRY_S = 7 * 24 * 3600  # how long the broker keeps our subscription and queue while we are away
FIRST_DELAY_S, LAST_DELAY_S = 0.5, 60.0
_LOOP_S = 5.0  # how often paho looks whether a ping is due; anything to send or receive wakes it at once
_WAIT_SLICE_S = 0.2  # how soon a wait notices that it is to stop
_LAST_WAIT_S = 10.0  # for a connection attempt in progress, when closing


class Link:
    """One device's connection; a context manager that closes it.

    Args:
        config: Who we are and where the broker is.
        stop: Once set, every wait raises `StoppedError`.

    Raises:
        CertificateError: If a certificate or key is unreadable.
    """

    def __init__(self, config: EdgeConfig, stop: threading.Event | None = None) -> None:
        self._config = config
        self._stop = stop or threading.Event()
        self._closing = threading.Event()
        self._changed = threading.Condition()  # guards everything below, and paho's client while it is usable
        self._usable = False
        self._connections = 0
        self._max_message_bytes = topics.MAX_MESSAGE_BYTES
        self._fault: Exception | None = None
        self._inbox = Inbox()
        self._on_their_way: deque[mqtt.MQTTMessageInfo] = deque()
        self._traffic = Traffic()
        self._client = self._make_client()
        self._keeper = threading.Thread(target=self._keep_connected, name="link", daemon=True)

    def _make_client(self) -> mqtt.Client:
        context = device_context(self._config.ca_file, self._config.cert_file, self._config.key_file)
        context.sslsocket_class = self._traffic.socket_class()
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._config.device,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,  # `_keep_connected` does that, with jitter
            manual_ack=True,
        )
        client.tls_set_context(context)
        client.on_pre_connect = lambda _client, _userdata: use_newest(context, self._config)
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        # Having this, paho leaves all writing to the thread that loops, and does not write from the one that publishes.
        client.on_socket_register_write = _leave_it_to_the_loop
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    @property
    def connections(self) -> int:
        """Connections made so far; a change tells that what was outstanding may have to be asked for again."""
        return self._connections

    @property
    def max_chunk_bytes(self) -> int:
        """The largest chunk that fits what the broker takes in one message."""
        return self._max_message_bytes - topics.ENVELOPE_BYTES

    @property
    def everything_sent(self) -> bool:
        """Whether the broker has taken all that was sent."""
        with self._changed:
            self._forget_published()
            return not self._on_their_way

    def network(self) -> NetworkBytes:
        """Bytes so far, over all connections."""
        return self._traffic.read()

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

    def send(self, kind: str, payload: bytes, timeout_s: float) -> None:
        """Hand a message to the session, which delivers it at least once; opens the link if need be, and waits for it.

        Raises:
            UnreachableError, CertificateError, StoppedError: As `open`.
        """
        deadline_s = time.monotonic() + timeout_s
        sent = False
        while not sent:
            self.open(deadline_s - time.monotonic())
            with self._changed:
                if self._usable:  # it may have been lost since; paho's client must be left alone while it connects
                    self._publish(kind, payload)
                    sent = True

    def read_shared(self, sha256: str, chunks: Sequence[int]) -> None:
        """Have the broker send these chunks of a shared blob, if it has them; once, on this connection."""
        with self._changed:
            if self._usable:
                self._client.subscribe([(self._shared(sha256, index), SubscribeOptions(qos=0)) for index in chunks])

    def leave_shared(self, sha256: str, chunks: Sequence[int]) -> None:
        """Be told no more of these chunks."""
        with self._changed:
            if self._usable and chunks:
                self._client.unsubscribe([self._shared(sha256, index) for index in chunks])

    def _shared(self, sha256: str, index: int) -> str:
        return topics.shared_chunk(self._config.fleet, sha256, index)

    def receive(self, timeout_s: float) -> Delivery | None:
        """The next message, or None if none arrives within ``timeout_s``.

        Raises:
            StoppedError: If told to stop.
        """
        self._wait(lambda: len(self._inbox) > 0, timeout_s)
        with self._changed:
            delivery = self._inbox.take()
            if self._inbox.has_room_again():
                self._client.disconnect()  # what was turned away comes again on the next connection
            return delivery

    def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that what the message says is on disk. One of an earlier connection will come again."""
        with self._changed:
            if delivery.mid and self._usable and delivery.connection == self._connections:
                self._client.ack(delivery.mid, 1)

    def close(self) -> None:
        """Say that we go offline, as far as the connection allows, and disconnect."""
        self._closing.set()
        with self._changed:
            if self._usable:
                self._publish(Presence.kind, encode(Presence(False), uuid.uuid4().hex), qos=0, retain=True)
                self._usable = False
            self._client.disconnect()
        if self._keeper.is_alive():
            self._keeper.join(_LAST_WAIT_S)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _publish(self, kind: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        topic = topics.up(self._config.fleet, self._config.device, kind)
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        if qos > 0 and info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:  # else it waits for the next connection
            self._forget_published()
            self._on_their_way.append(info)
        self._traffic.add_payload(up=len(payload))

    def _forget_published(self) -> None:
        while self._on_their_way and self._on_their_way[0].is_published():
            self._on_their_way.popleft()

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not done():
                if self._stop.is_set():
                    raise StoppedError("told to stop")
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
        delay_s = FIRST_DELAY_S
        while not self._closing.is_set():
            connections = self._connections
            self._connect_once()
            delay_s = FIRST_DELAY_S if self._connections > connections else min(2 * delay_s, LAST_DELAY_S)
            self._closing.wait(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret

    def _connect_once(self) -> None:
        will_topic = topics.up(self._config.fleet, self._config.device, Presence.kind)
        self._client.will_set(will_topic, encode(Presence(False), uuid.uuid4().hex), qos=1, retain=True)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        host, port = self._config.host, self._config.port
        try:
            self._client.connect(host, port, KEEPALIVE_S, clean_start=False, properties=properties)
        except (OSError, ValueError) as error:
            self._note_fault(error)
            return
        while self._client.loop(_LOOP_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass

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
        if self._closing.is_set():
            client.disconnect()
            return
        limit_bytes = getattr(properties, "MaximumPacketSize", None)
        with self._changed:
            self._connections += 1  # queued messages may arrive before the subscription is confirmed
            self._max_message_bytes = min(limit_bytes or topics.MAX_MESSAGE_BYTES, topics.MAX_MESSAGE_BYTES)
        client.subscribe(topics.device_filter(self._config.fleet, self._config.device), qos=1)

    def _on_subscribe(self, client: mqtt.Client, _userdata: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        if reasons[0].is_failure:
            self._note_fault(ConnectionRefusedError(f"it lets this device read nothing: {reasons[0]}"))
            client.disconnect()
            return
        with self._changed:
            self._publish(Presence.kind, encode(Presence(True), uuid.uuid4().hex), retain=True)
            self._usable, self._fault = True, None
            self._changed.notify_all()

    def _on_disconnect(self, _client: mqtt.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        with self._changed:
            if not self._usable and self._fault is None:
                self._note_fault(self._traffic.fault or ConnectionError(f"it closed the connection ({reason})"))
            self._usable = False

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        try:
            shared = topics.is_shared_chunk(message.topic, self._config.fleet)
            kind = Chunk.kind if shared else topics.parse(message.topic).kind
        except MalformedMessageError:
            return  # not of our subscription
        if shared and not message.payload:
            return  # the cloud shares this chunk no more
        with self._changed:
            delivery = Delivery(kind, bytes(message.payload), message.mid, self._connections, time.monotonic())
            if self._inbox.put(delivery):
                self._traffic.add_payload(down=len(delivery.payload))
                self._changed.notify_all()


def _leave_it_to_the_loop(_client: mqtt.Client, _userdata: Any, _socket: Any) -> None:
    """The loop sees by itself that there is something to write."""
