"""The cloud worker's connection: takes what devices say from the broker, sends what is answered.

Any number of workers share the fleet's messages (`topics.cloud_filter`); each needs an identity of its own. A message
is acknowledged only when its effect is on disk and its answers are handed to the client, so one that a killed worker
had in its hands is delivered again.

Mosquitto 2.0 forgets shared subscriptions when it restarts, until the worker is back. What a device publishes in
between is acknowledged to it with the reason "no matching subscribers" and lost, so devices repeat what was not
answered.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from cloud_broker.errors import ConnectionFailedError
from cloud_broker.handlers import Outgoing
from cloud_broker.identity import Identity
from cloud_broker.sharing import SHARE_LIFETIME_S
from profiling.traffic import Traffic
from protocol import envelope, topics
from protocol.messages import BlobRef, Chunk
from protocol.purposes import SAMPLES, purpose_of
from protocol.transfer import chunk_count

_KEEPALIVE_S = 60
_CONNECT_TIMEOUT_S = 15.0
_DRAIN_TIMEOUT_S = 5.0
_SESSION_EXPIRY_S = 7 * 24 * 3600
_INFLIGHT = 100
_MAX_WAITING = 1000  # messages a thread has before it; the broker sends no more than about _INFLIGHT unacknowledged
_MAX_OUTGOING = 128  # messages on their way to the broker: 8 MB of chunks
_WAKE_S = 0.2

logger = logging.getLogger(__name__)

Respond = Callable[[str, bytes], Iterable[Outgoing]]


@dataclass(frozen=True)
class _Delivery:
    """A message as it came, with the number of the connection it came by."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    connection: int


class Gateway:
    """One worker's connection and the threads that act on what comes; a context manager.

    Messages of one device are acted on in their order; those of different devices side by side.
    """

    def __init__(
        self,
        identity: Identity,
        fleet: str,
        host: str,
        port: int,
        respond: Respond,
        *,
        threads: int = 2,
        on_return: Callable[[], None] | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        """Prepare a connection.

        Args:
            identity: The worker's certificate; the broker knows the worker by its name.
            fleet: The fleet served.
            host: The broker's name or address, as in its certificate.
            port: The broker's port.
            respond: Acts on a topic and payload and says what to answer; does not raise.
            threads: How many messages are acted on at a time.
            on_return: Called after each reconnection, on a thread that may `send`: the broker may have lost what it was
                told.
            traffic: Counts the connection's bytes.

        Raises:
            CertificateError: If the certificate cannot be used.
        """
        self._fleet, self._host, self._port = fleet, host, port
        self._respond = respond
        self._on_return = on_return
        self._traffic = traffic or Traffic(lambda topic: purpose_of(topic, SAMPLES))
        self._returned = threading.Event()
        self._stopping = threading.Event()
        self._subscribed = threading.Event()
        self._failure = ""
        self._connection = 0
        self._free = threading.Semaphore(_MAX_OUTGOING)
        self._queues: list[queue.Queue[_Delivery]] = [queue.Queue(_MAX_WAITING) for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=[waiting], name=f"gateway-{number}", daemon=True)
            for number, waiting in enumerate(self._queues)
        ]
        self._client = self._make_client(identity)

    def start(self) -> None:
        """Connect and subscribe; afterwards a lost connection comes back by itself.

        Raises:
            ConnectionFailedError: If the broker is not there or does not let us in.
        """
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_EXPIRY_S
        properties.ReceiveMaximum = _INFLIGHT
        try:
            self._client.connect(self._host, self._port, _KEEPALIVE_S, clean_start=False, properties=properties)
        except OSError as error:
            raise self._refused(str(error)) from error
        self._client.loop_start()
        if not self._subscribed.wait(_CONNECT_TIMEOUT_S):
            self._client.disconnect()
            self._client.loop_stop()
            raise self._refused(self._failure or f"no answer within {_CONNECT_TIMEOUT_S:.0f} s")
        for thread in self._threads:
            thread.start()

    def send(self, outgoing: Outgoing) -> bool:
        """Hand a message to the client, which delivers it to the broker, over reconnections if need be.

        Waits while too many are on their way.

        Returns:
            Whether it was handed over; a gateway that is stopping no longer waits.

        Raises:
            OversizeError: If the message is too large.
        """
        payload = envelope.encode(outgoing.message, outgoing.message_id)
        if outgoing.device is None:
            return self._hand_over(self._topic(outgoing), payload, 1, True, SHARE_LIFETIME_S)
        # A chunk is asked for again, so the broker need not keep it for a device that went away.
        qos = 0 if isinstance(outgoing.message, Chunk) else 1
        return self._hand_over(self._topic(outgoing), payload, qos, outgoing.retain, None)

    def withdraw(self, ref: BlobRef) -> None:
        """Have the broker forget a blob that the fleet shares no more."""
        for index in range(chunk_count(ref.size_bytes)):
            self._hand_over(topics.shared_chunk(self._fleet, ref.sha256, index), b"", 1, True, None)

    def _topic(self, outgoing: Outgoing) -> str:
        message = outgoing.message
        if outgoing.device is not None:
            return topics.down(self._fleet, outgoing.device, message.kind)
        assert isinstance(message, Chunk)
        return topics.shared_chunk(self._fleet, message.blob, message.index)

    def _hand_over(self, topic: str, payload: bytes, qos: int, retain: bool, expiry_s: int | None) -> bool:
        while not self._free.acquire(timeout=_WAKE_S):
            if self._stopping.is_set():
                return False
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        self._traffic.add_payload(topic, up=len(payload))
        return True

    def stop(self) -> None:
        """Finish what is being acted on, let the answers out, and disconnect. What waits comes to the next worker."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        deadline_s = time.monotonic() + _DRAIN_TIMEOUT_S
        for _ in range(_MAX_OUTGOING):
            if not self._free.acquire(timeout=max(0.0, deadline_s - time.monotonic())):
                break
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _make_client(self, identity: Identity) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=identity.name, protocol=mqtt.MQTTv5, manual_ack=True
        )
        context = identity.client_context()
        context.sslsocket_class = self._traffic.socket_class()
        client.tls_set_context(context)
        client.on_pre_connect = lambda _client, _userdata: identity.refresh(context)
        client.max_inflight_messages_set(_INFLIGHT)
        client.reconnect_delay_set(1, 8)
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = lambda _client, _userdata, _connection: self._traffic.closing()
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _refused(self, reason: str) -> ConnectionFailedError:
        return ConnectionFailedError(
            f"cannot connect to the broker at {self._host}:{self._port}: {reason}. "
            "Does it run, and is the certificate its fleet's?"
        )

    # Below: called by paho on its network thread.

    def _on_connect(
        self, client: mqtt.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._failure = str(reason)
            logger.error("the broker refuses us: %s", reason)
            return
        self._connection += 1
        if self._connection > 1:
            self._returned.set()
        # Also where the session is still there: Mosquitto forgets a restored session's shared subscriptions.
        client.subscribe(topics.cloud_filter(self._fleet), qos=1)

    def _on_socket_open(self, _client: mqtt.Client, _userdata: Any, connection: Any) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._traffic.opened(connection)

    def _on_connect_fail(self, _client: mqtt.Client, _userdata: Any) -> None:
        logger.warning("the broker at %s:%d cannot be reached; trying again", self._host, self._port)

    def _on_disconnect(
        self, _client: mqtt.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if not self._stopping.is_set():
            self._failure = f"disconnected ({reason})"
            logger.warning("connection to the broker lost (%s); trying again", reason)

    def _on_subscribe(
        self, _client: mqtt.Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        if reasons[0].is_failure:
            self._failure = f"subscription refused ({reasons[0]})"
            return
        self._subscribed.set()

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        delivery = _Delivery(message.topic, bytes(message.payload), message.mid, message.qos, self._connection)
        self._traffic.add_payload(delivery.topic, down=len(delivery.payload))
        device = delivery.topic.split("/")[3:4]
        waiting = self._queues[zlib.crc32("".join(device).encode()) % len(self._queues)]
        if waiting.full():
            # Not acknowledged, so the broker keeps it. Waiting here would hold up the very acknowledgements of our own
            # answers that the threads wait for.
            logger.error("too many messages wait; one of %s comes again after the next reconnection", delivery.topic)
            return
        waiting.put_nowait(delivery)

    def _on_publish(
        self, _client: mqtt.Client, _userdata: Any, _mid: int, reason: ReasonCode, _properties: Any
    ) -> None:
        self._free.release()
        if reason.is_failure:
            logger.error("the broker refused an answer: %s", reason)

    # Below: on the gateway's own threads.

    def _work(self, waiting: queue.Queue[_Delivery]) -> None:
        while not self._stopping.is_set():
            if waiting is self._queues[0] and self._returned.is_set():
                self._returned.clear()
                if self._on_return is not None:
                    self._on_return()
            try:
                delivery = waiting.get(timeout=_WAKE_S)
            except queue.Empty:
                continue
            # One of an earlier connection is delivered again on this one.
            if delivery.connection == self._connection:
                self._act(delivery)

    def _act(self, delivery: _Delivery) -> None:
        answered = all(self.send(outgoing) for outgoing in self._respond(delivery.topic, delivery.payload))
        if answered and delivery.connection == self._connection:
            self._client.ack(delivery.mid, delivery.qos)
