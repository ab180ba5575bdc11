"""A cloud worker's MQTT connection: subscribed with all others to what devices say, back by itself when it is lost.

Mosquitto 2.0 forgets shared subscriptions when it restarts, until the worker is back. What a device publishes in
between is acknowledged to it with the reason "no matching subscribers" and lost, so devices repeat what was not
answered.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from cloud_broker.errors import ConnectionFailedError
from cloud_broker.identity import Identity
from profiling.traffic import Traffic
from protocol import topics

_KEEPALIVE_S = 60
_CONNECT_TIMEOUT_S = 15.0
_LEAVE_TIMEOUT_S = 5.0
_SESSION_EXPIRY_S = 7 * 24 * 3600
_INFLIGHT = 100
_MAX_OUTGOING = 128  # messages on their way to the broker: 8 MB of chunks
_WAKE_S = 0.2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """A message as it came, with the number of the connection it came by and when that was (monotonic)."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    connection: int
    came_s: float


class WorkerLink:
    """One worker's connection."""

    def __init__(
        self,
        identity: Identity,
        fleet: str,
        host: str,
        port: int,
        *,
        on_message: Callable[[Delivery], None],
        traffic: Traffic,
        receive_maximum: int,
    ) -> None:
        """Prepare a connection.

        Args:
            identity: The worker's certificate; the broker knows the worker by its name.
            fleet: The fleet served.
            host: The broker's name or address, as in its certificate.
            port: The broker's port.
            on_message: Told of each message, on the network's thread: it must not wait.
            traffic: Counts the connection's bytes.
            receive_maximum: Messages that the broker may have handed over without our acknowledgement.

        Raises:
            CertificateError: If the certificate cannot be used.
        """
        self._fleet, self._host, self._port = fleet, host, port
        self._told = on_message
        self._traffic = traffic
        self._receive_maximum = receive_maximum
        self._closing = threading.Event()
        self._subscribed = threading.Event()
        self._left = threading.Event()
        self._returned = threading.Event()
        self._up = False
        self._failure = ""
        self._connection = 0
        self._free = threading.Semaphore(_MAX_OUTGOING)
        self._uncounted: set[int] = set()  # said without waiting for room, so they give none back
        self._client = self._make_client(identity)

    @property
    def up(self) -> bool:
        """Whether the broker is connected and hands us messages."""
        return self._up and self._subscribed.is_set()

    def open(self) -> None:
        """Connect and subscribe; afterwards a lost connection comes back by itself.

        Raises:
            ConnectionFailedError: If the broker is not there or does not let us in.
        """
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_EXPIRY_S
        properties.ReceiveMaximum = self._receive_maximum
        try:
            self._client.connect(self._host, self._port, _KEEPALIVE_S, clean_start=False, properties=properties)
        except OSError as error:
            raise self._refused(str(error)) from error
        self._client.loop_start()
        if not self._subscribed.wait(_CONNECT_TIMEOUT_S):
            self._client.disconnect()
            self._client.loop_stop()
            raise self._refused(self._failure or f"no answer within {_CONNECT_TIMEOUT_S:.0f} s")

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None = None) -> bool:
        """Hand a message to the client, which brings it to the broker; waits while too many are on their way.

        Returns:
            Whether it was handed over; once `give_up` was called nothing waits.
        """
        while not self._free.acquire(timeout=_WAKE_S):
            if self._closing.is_set():
                return False
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        self._traffic.add_payload(topic, up=len(payload))
        return True

    def say_at_once(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0 without waiting; from `on_message` alone."""
        self._uncounted.add(self._client.publish(topic, payload, qos=0).mid)
        self._traffic.add_payload(topic, up=len(payload))

    def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that a message was acted on; one of an earlier connection comes again anyway."""
        if self.current(delivery):
            self._client.ack(delivery.mid, delivery.qos)

    def current(self, delivery: Delivery) -> bool:
        """Whether a message came by the connection that there is now; else it comes again."""
        return delivery.connection == self._connection

    def came_back(self) -> bool:
        """Whether the connection was lost and came back since this was asked last: the broker may be another."""
        came_back = self._returned.is_set()
        self._returned.clear()
        return came_back

    def leave(self) -> None:
        """Have the broker hand new messages to other workers; those that it has for us still come."""
        self._client.unsubscribe(topics.cloud_filter(self._fleet))
        if not self._left.wait(_LEAVE_TIMEOUT_S):
            logger.warning("the broker did not confirm that we left; what it has for us may wait for its session's end")

    def give_up(self) -> None:
        """Let nothing wait for room any more."""
        self._closing.set()

    def close(self, timeout_s: float, *, forget: bool) -> None:
        """Let out what is on its way, and disconnect.

        Args:
            timeout_s: For the first.
            forget: Whether the broker is to forget our session, and with it what it has for us.
        """
        self._closing.set()
        deadline_s = time.monotonic() + timeout_s
        for _ in range(_MAX_OUTGOING):
            if not self._free.acquire(timeout=max(0.0, deadline_s - time.monotonic())):
                break
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        if forget:
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._client.loop_stop()

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
        client.on_unsubscribe = lambda _client, _userdata, _mid, _reasons, _properties: self._left.set()
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
        self._up = True
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
        self._up = False
        if not self._closing.is_set():
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
        delivery = Delivery(
            message.topic, bytes(message.payload), message.mid, message.qos, self._connection, time.monotonic()
        )
        self._traffic.add_payload(delivery.topic, down=len(delivery.payload))
        self._told(delivery)

    def _on_publish(self, _client: mqtt.Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        if mid in self._uncounted:
            self._uncounted.discard(mid)
            return
        self._free.release()
        if reason.is_failure:
            logger.error("the broker refused an answer: %s", reason)
