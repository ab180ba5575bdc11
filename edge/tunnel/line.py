"""One line to the broker, kept up by a thread of its own: connected, subscribed, watched, and connected again.

What is said over it, and who waits for what, is `link`'s to say. A certificate that is missing or damaged is
a fault of the line like a broker that is away: it is tried again, and whatever needs no broker goes on without it.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
import uuid
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

from edge.config import EdgeConfig
from edge.errors import CertificateError
from edge.tunnel.inbox import Delivery, Inbox
from edge.tunnel.mqtt import connect, new_client, release, secure
from edge.tunnel.sent import Sent
from edge.tunnel.tls import refusal_of_certificate
from profiling.traffic import Traffic
from protocol import topics
from protocol.connection import Connection, State
from protocol.envelope import encode
from protocol.errors import MalformedMessageError
from protocol.messages import Chunk, Presence

_LOOP_S = 5.0  # how often paho looks whether a ping is due; anything to send or receive wakes it at once
_CALLBACKS = (
    "on_socket_open", "on_socket_close", "on_connect", "on_subscribe", "on_disconnect", "on_message", "on_publish",
)  # fmt: skip
_LAST_WAIT_S = 10.0  # for a connection attempt in progress, when closing


class Line:
    """The line, and what came and went over it.

    Attributes:
        changed: Guards the line's state, and `client` while it is usable; notified when anything changes.
        client: MQTT's.
        inbox: What arrived and nobody took yet.
        sent: What became of what was sent.
        fault: Why there is no connection; None where there is one, or nothing was tried.
        max_message_bytes: The largest message that the broker takes.

    Args:
        config: Who we are and where the broker is.
        traffic: Counts what the line carries.
    """

    def __init__(self, config: EdgeConfig, traffic: Traffic) -> None:
        self.changed = threading.Condition()
        self.inbox = Inbox()
        self.sent = Sent()
        self.fault: Exception | None = None
        self.max_message_bytes = topics.MAX_MESSAGE_BYTES
        self._config = config
        self._traffic = traffic
        self._closing = threading.Event()
        self._connection = Connection()
        self._secured = False
        self.client = self._new_client()
        self._keeper = threading.Thread(target=self._keep_connected, name="link", daemon=True)

    def _new_client(self) -> mqtt.Client:
        client = new_client(self._config)
        for name in _CALLBACKS:
            setattr(client, name, getattr(self, f"_{name}"))
        return client

    @property
    def usable(self) -> bool:
        """Whether there is a connection, and it is subscribed."""
        return self._connection.usable

    @property
    def connections(self) -> int:
        """Connections made so far."""
        return self._connection.number

    @property
    def where(self) -> str:
        """The far end, for a person."""
        return f"broker {self._config.host}:{self._config.port}"

    def begin(self) -> None:
        """Keep the line up from now on."""
        if not self._keeper.is_alive():
            self._keeper.start()

    def publish(self, kind: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Hand a message to MQTT; its number. For whoever holds `changed`."""
        topic = topics.up(self._config.fleet, self._config.device, kind)
        mid = self.client.publish(topic, payload, qos=qos, retain=retain).mid
        if qos > 0:
            self.sent.handed_over(mid)
        self._traffic.add_payload(topic, up=len(payload))
        return mid

    def close(self) -> None:
        """Say that we go offline, as far as the connection allows, and disconnect."""
        self._closing.set()
        with self.changed:
            if self._connection.close():
                self.publish(Presence.kind, encode(Presence(False), uuid.uuid4().hex), qos=0, retain=True)
            self.client.disconnect()
        if self._keeper.is_alive():
            self._keeper.join(_LAST_WAIT_S)
        if not self._keeper.is_alive():  # nobody calls back: let go of each other
            for name in _CALLBACKS:
                setattr(self.client, name, None)
            release(self.client)

    # All below runs on the keeper's thread.

    def _keep_connected(self) -> None:
        while not self._closing.is_set():
            with self.changed:
                self._connection.begin()
            self._connect_once()
            with self.changed:
                self._connection.lost()
                delay_s = self._connection.delay_s(random.random())  # noqa: S311 - jitter, not a secret
            self._closing.wait(delay_s)

    def _connect_once(self) -> None:
        try:
            if not self._secured:
                secure(self.client, self._config, self._traffic)
                self._secured = True
            connect(self.client, self._config)
        except (OSError, ValueError, CertificateError) as error:
            self._note_fault(error)
            return
        while self.client.loop(_LOOP_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            with self.changed:
                expecting = not self.sent.everything
                dead = self._connection.dead(time.monotonic(), self._traffic.progress(), expecting=expecting)
            if dead:
                self._break_off()

    def _break_off(self) -> None:
        """End a half-open connection without a goodbye, which would not get through."""
        self._note_fault(ConnectionError("it has gone silent"))
        connection = self.client.socket()
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _note_fault(self, fault: Exception) -> None:
        refusal = refusal_of_certificate(fault)
        with self.changed:
            self.fault = fault if refusal is None else CertificateError(f"{self.where}: {refusal}")
            self.changed.notify_all()

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
        with self.changed:
            if limit_bytes is not None:
                self.max_message_bytes = min(limit_bytes - topics.ENVELOPE_BYTES, topics.MAX_MESSAGE_BYTES)
            if not self._connection.connected():
                client.disconnect()
                return
            self.fault = None  # whoever opens the link while it subscribes hears nothing of what was wrong before
        client.subscribe(topics.device_filter(self._config.fleet, self._config.device), qos=1)

    def _on_subscribe(self, client: mqtt.Client, _userdata: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        if self._connection.state is not State.SUBSCRIBING:
            return  # to a shared chunk; one that may not be read is asked of the cloud in time
        if reasons[0].is_failure:
            self._note_fault(ConnectionRefusedError(f"it lets this device read nothing: {reasons[0]}"))
            client.disconnect()
            return
        with self.changed:
            if self._connection.subscribed():
                self.publish(Presence.kind, encode(Presence(True), uuid.uuid4().hex), retain=True)
                self.fault = None
                self.changed.notify_all()

    def _on_disconnect(self, _client: mqtt.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        with self.changed:
            if not self.usable and self.fault is None:
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
        with self.changed:
            delivery = Delivery(kind, bytes(message.payload), message.mid, self._connection.number, time.monotonic())
            if self.inbox.put(delivery):
                self._traffic.add_payload(message.topic, down=len(delivery.payload))
                self.changed.notify_all()

    def _on_publish(self, _client: mqtt.Client, _userdata: Any, mid: int, reason: Any, _properties: Any) -> None:
        self.sent.acknowledged(mid, reason.value)  # under a lock of the client's: wait for none of ours here
