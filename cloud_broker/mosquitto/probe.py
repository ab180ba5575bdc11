"""A small MQTT 5 client that does one thing after another and says what the broker answered."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from cloud_broker.errors import ConnectionFailedError

_ANSWER_S = 10.0
_KEEPALIVE_S = 30


class Probe:
    """One connection; a context manager.

    Attributes:
        properties: What the broker says of itself in its CONNACK, by the standard's names; a limit it does not state is
            not there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        name: str,
        context: ssl.SSLContext | None,
        *,
        session_s: int = 0,
        clean: bool = True,
    ) -> None:
        """Connect.

        Args:
            host: The broker's.
            port: The broker's.
            name: The client id to claim.
            context: With this peer's certificate; None for a connection without TLS.
            session_s: How long the broker shall keep the session afterwards, in seconds.
            clean: Whether to begin a new session.

        Raises:
            ConnectionFailedError: If the broker cannot be reached or does not let us in.
        """
        self.properties: dict[str, Any] = {}
        self._heard: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self._answers: dict[tuple[str, int], ReasonCode] = {}
        self._changed = threading.Condition()
        self._lost = False
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        self._client.max_inflight_messages_set(100)
        self._listen_to_client()
        if context is not None:
            self._client.tls_set_context(context)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_s
        try:
            self._client.connect(host, port, _KEEPALIVE_S, clean_start=clean, properties=properties)
        except (OSError, ValueError) as error:
            raise ConnectionFailedError(f"{host}:{port} as {name}: {error}") from error
        self._client.loop_start()
        answer = self._answer("connect", 0)
        if answer is None or answer.is_failure:
            self._client.loop_stop()
            release(self._client)
            raise ConnectionFailedError(f"{host}:{port} as {name}: {answer or 'closed without an answer'}")

    def subscribe(self, topic: str) -> bool:
        """Subscribe at QoS 1; whether the broker grants it, which need not mean that it delivers."""
        answer = self._answer("subscribe", self._client.subscribe(topic, qos=1)[1] or 0)
        return answer is not None and not answer.is_failure

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> bool:
        """Publish at QoS 1; whether the broker takes it."""
        answer = self._answer("publish", self.post(topic, payload, retain=retain, expiry_s=expiry_s))
        return answer is not None and not answer.is_failure

    def post(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> int:
        """Publish without waiting; `settled` waits for all."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        return self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid

    def settled(self, mids: list[int]) -> bool:
        """Whether the broker took all of what was posted."""
        answers = [self._answer("publish", mid) for mid in mids]
        return all(answer is not None and not answer.is_failure for answer in answers)

    def hear(self, count: int, patience_s: float = 2.0) -> list[bytes]:
        """Up to ``count`` payloads that arrive, each within ``patience_s`` of the one before."""
        heard: list[bytes] = []
        try:
            while len(heard) < count:
                heard.append(bytes(self._heard.get(timeout=patience_s).payload))
        except queue.Empty:
            pass
        return heard

    @property
    def connected(self) -> bool:
        """Whether the broker has not closed the connection."""
        return not self._lost

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        release(self._client)

    def _listen_to_client(self) -> None:
        client = self._client
        client.on_socket_open = _set_nodelay
        client.on_message = lambda _client, _userdata, message: self._heard.put(message)
        client.on_connect = self._on_connect
        client.on_disconnect = lambda *_: self._note_lost()
        client.on_subscribe = lambda _client, _userdata, mid, codes, _properties: self._note("subscribe", mid, codes[0])
        client.on_publish = lambda _client, _userdata, mid, code, _properties: self._note("publish", mid, code)

    def _on_connect(
        self, _client: mqtt.Client, _userdata: Any, _flags: Any, code: ReasonCode, properties: Properties | None
    ) -> None:
        self.properties = {} if properties is None else dict(properties.json())  # type: ignore[no-untyped-call]
        self._note("connect", 0, code)

    def _note(self, what: str, mid: int, code: ReasonCode) -> None:
        with self._changed:
            self._answers[what, mid] = code
            self._changed.notify_all()

    def _note_lost(self) -> None:
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def _answer(self, what: str, mid: int) -> ReasonCode | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lost or (what, mid) in self._answers, _ANSWER_S)
            return self._answers.pop((what, mid), None)


def release(client: mqtt.Client) -> None:
    """Close a client's sockets, also the pair that wakes its loop, once nobody loops.

    paho closes the pair when a client is forgotten. One that hangs on a cycle of references, as callbacks make, is
    forgotten at some later time, and its sockets perhaps before it.
    """
    client.__del__()


def _set_nodelay(_client: mqtt.Client, _userdata: Any, connection: Any) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
