"""A cloud worker's MQTT connection: subscribed with all others to what devices say, back by itself when it is lost.

Mosquitto 2.0 forgets shared subscriptions when it restarts, until the worker is back. What a device publishes in
between is acknowledged to it with the reason "no matching subscribers" and lost, so devices repeat what was not
answered.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cloud_broker.errors import ConnectionFailedError
from cloud_broker.membership.identity import Identity
from cloud_broker.workers.mqtt_client import Heard, MqttClient
from profiling.traffic import Traffic
from protocol import mqtt_codec, topics

_CONNECT_TIMEOUT_S = 15.0
_LEAVE_TIMEOUT_S = 5.0

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
        between: Callable[[], bool] | None = None,
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
            between: See `MqttClient`.

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
        context = identity.client_context()
        context.sslsocket_class = traffic.socket_class()

        def newest() -> ssl.SSLContext:
            identity.refresh(context)
            return context

        self._client = MqttClient(
            identity.name, host, port, new_context=newest, traffic=traffic, receive_maximum=receive_maximum,
            heard=Heard(self._on_connected, self._on_answer, self._on_publish, self._on_lost), between=between,
        )  # fmt: skip

    @property
    def up(self) -> bool:
        """Whether the broker is connected and hands us messages."""
        return self._up and self._subscribed.is_set()

    def open(self) -> None:
        """Connect and subscribe; afterwards a lost connection comes back by itself.

        Raises:
            ConnectionFailedError: If the broker is not there or does not let us in.
        """
        try:
            self._client.start()
        except OSError as error:
            raise self._refused(str(error)) from error
        if not self._subscribed.wait(_CONNECT_TIMEOUT_S):
            self._client.close(0, forget=False)
            raise self._refused(self._failure or f"no answer within {_CONNECT_TIMEOUT_S:.0f} s")

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None = None) -> bool:
        """Hand a message to the client, which brings it to the broker; waits while too many are on their way.

        Returns:
            Whether it was handed over; once `give_up` was called nothing waits.
        """
        handed_over = self._client.publish(topic, payload, qos=qos, retain=retain, expiry_s=expiry_s)
        if handed_over:
            self._traffic.add_payload(topic, up=len(payload))
        return handed_over

    def say_at_once(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0 without waiting."""
        self._client.say(mqtt_codec.publish(topic, payload))
        self._traffic.add_payload(topic, up=len(payload))

    def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that a message was acted on; one of an earlier connection comes again anyway."""
        if delivery.qos:
            self._client.say(mqtt_codec.puback(delivery.mid), delivery.connection)

    def current(self, delivery: Delivery) -> bool:
        """Whether a message came by the connection that there is now; else it comes again."""
        return delivery.connection == self._client.connection

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
        self._client.give_up()

    def close(self, timeout_s: float, *, forget: bool) -> None:
        """Let out what is on its way, and disconnect.

        Args:
            timeout_s: For the first.
            forget: Whether the broker is to forget our session, and with it what it has for us.
        """
        self._closing.set()
        self._client.close(timeout_s, forget=forget)

    def _refused(self, reason: str) -> ConnectionFailedError:
        return ConnectionFailedError(
            f"cannot connect to the broker at {self._host}:{self._port}: {reason}. "
            "Does it run, and is the certificate its fleet's?"
        )

    # Below: called by the client on its own thread.

    def _on_connected(self, connection: int) -> None:
        self._up = True
        if connection > 1:
            self._returned.set()
        # Also where the session is still there: Mosquitto forgets a restored session's shared subscriptions.
        self._client.subscribe(topics.cloud_filter(self._fleet))

    def _on_lost(self, reason: str) -> None:
        self._up = False
        if not self._closing.is_set():
            self._failure = reason
            logger.warning("no connection to the broker at %s:%d (%s); trying again", self._host, self._port, reason)

    def _on_answer(self, packet: mqtt_codec.Packet) -> None:
        failed = packet.reason >= mqtt_codec.FAILURE
        if packet.kind == mqtt_codec.SUBACK and failed:
            self._failure = f"subscription refused (reason {packet.reason:#x})"
        elif packet.kind == mqtt_codec.SUBACK:
            self._subscribed.set()
        elif packet.kind == mqtt_codec.UNSUBACK:
            self._left.set()
        elif packet.kind == mqtt_codec.PUBACK and failed:
            logger.error("the broker refused an answer: reason %#x", packet.reason)

    def _on_publish(self, packet: mqtt_codec.Packet, connection: int) -> None:
        delivery = Delivery(packet.topic, packet.payload, packet.mid, packet.qos, connection, time.monotonic())
        self._traffic.add_payload(delivery.topic, down=len(delivery.payload))
        self._told(delivery)
