"""A real Mosquitto for tests, with a certificate for everyone, and a plain MQTT peer to speak to it."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from cloud_broker.errors import BrokerNotFoundError
from cloud_broker.membership.identity import Identity
from cloud_broker.mosquitto.broker import Broker, BrokerConfig, write_broker_directory
from cloud_broker.mosquitto.probe import release
from protocol import envelope, topics
from protocol.messages import Message
from tests.ports import free_port

FLEET = "test"
WAIT_S = 60.0


@dataclass(frozen=True)
class FleetBroker:
    """A running broker and the identities of its fleet."""

    config: BrokerConfig
    broker: Broker

    @property
    def host(self) -> str:
        """Where to connect to."""
        return self.config.connect_host

    @property
    def port(self) -> int:
        """Where to connect to."""
        return self.config.port

    def cloud(self, name: str = "cloud") -> Identity:
        """A cloud worker's identity; only the names given when the broker was configured have a worker's rights."""
        return self.config.authority().cloud_worker(name)

    def device(self, name: str) -> Identity:
        """A device's identity, issued when first asked for."""
        return self.config.authority().device(name)


class Peer:
    """One MQTT 5 connection that remembers what it was told. The broker knows it by its certificate alone."""

    def __init__(
        self,
        fleet: FleetBroker,
        identity: Identity | None,
        *,
        context: ssl.SSLContext | None = None,
        persistent: bool = False,
    ) -> None:
        self.fleet = fleet
        self.name = identity.name if identity else "nobody"
        self.inbox: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self._passed_over: list[mqtt.MQTTMessage] = []
        self._answers: dict[tuple[str, int], ReasonCode] = {}
        self._changed = threading.Condition()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.name, protocol=mqtt.MQTTv5)
        if context is None and identity is not None:
            context = identity.client_context()
        self._client.tls_set_context(context)
        self._client.on_message = lambda _client, _userdata, message: self.inbox.put(message)
        self._client.on_connect = lambda _c, _u, _flags, code, _p: self._note("connect", 0, code)
        self._client.on_subscribe = lambda _c, _u, mid, codes, _p: self._note("subscribe", mid, codes[0])
        self._client.on_publish = lambda _c, _u, mid, code, _p: self._note("publish", mid, code)
        self._client.on_socket_open = _set_nodelay
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600 if persistent else 0
        self._client.connect(fleet.host, fleet.port, clean_start=not persistent, properties=properties)
        self._client.loop_start()
        try:
            self._answer("connect", 0)
        except AssertionError:
            self.close()
            raise

    def subscribe(self, topic: str) -> ReasonCode:
        """Subscribe at QoS 1 and return the broker's answer."""
        _result, mid = self._client.subscribe(topic, qos=1)
        return self._answer("subscribe", mid or 0)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> ReasonCode:
        """Publish at QoS 1 and return the broker's answer."""
        return self._answer("publish", self._client.publish(topic, payload, qos=1, retain=retain).mid)

    def say(self, message: Message, message_id: str, *, device: str | None = None) -> ReasonCode:
        """Send a message of the contract on its topic; ``device`` defaults to this peer's own name."""
        topic = str(topics.Topic(FLEET, device or self.name, message.direction, message.kind))
        return self.publish(topic, envelope.encode(message, message_id))

    def post(self, message: Message, message_id: str, *, device: str) -> int:
        """Send without waiting for the broker's answer; `wait_published` waits for it."""
        topic = str(topics.Topic(FLEET, device, message.direction, message.kind))
        return self._client.publish(topic, envelope.encode(message, message_id), qos=1).mid

    def wait_published(self, mid: int) -> ReasonCode:
        """The broker's answer to an earlier `post`."""
        return self._answer("publish", mid)

    def listen(self) -> None:
        """Subscribe to everything said to this device."""
        assert not self.subscribe(topics.device_filter(FLEET, self.name)).is_failure

    def hear(self, *kinds: str) -> envelope.Envelope:
        """The next message, of one of ``kinds`` if any is named; others are kept for whoever asks for them later."""

        def wanted(raw: mqtt.MQTTMessage) -> bool:
            return not kinds or topics.parse(raw.topic).kind in kinds

        for place, raw in enumerate(self._passed_over):
            if wanted(raw):
                return _decoded(self._passed_over.pop(place))
        while not wanted(raw := self.inbox.get(timeout=WAIT_S)):
            self._passed_over.append(raw)
        return _decoded(raw)

    def hear_within(self, timeout_s: float) -> envelope.Envelope:
        """The next message that arrives; TimeoutError if none does."""
        try:
            raw = self.inbox.get(timeout=timeout_s)
        except queue.Empty as error:
            raise TimeoutError(f"{self.name} heard nothing for {timeout_s:g} s") from error
        return _decoded(raw)

    def close(self) -> None:
        """Disconnect and end its thread."""
        self._client.disconnect()
        self._client.loop_stop()
        release(self._client)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note(self, what: str, mid: int, code: ReasonCode) -> None:
        with self._changed:
            self._answers[what, mid] = code
            self._changed.notify_all()

    def _answer(self, what: str, mid: int) -> ReasonCode:
        with self._changed:
            assert self._changed.wait_for(lambda: (what, mid) in self._answers, WAIT_S), f"no answer to {what}"
            return self._answers.pop((what, mid))


def _decoded(raw: mqtt.MQTTMessage) -> envelope.Envelope:
    topic = topics.parse(raw.topic)
    return envelope.decode(topic.direction, topic.kind, bytes(raw.payload))


def _set_nodelay(_client: mqtt.Client, _userdata: Any, connection: Any) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def start_fleet_broker(directory: Path) -> FleetBroker:
    """Start a broker under ``directory``; the caller stops it. Skips the test where Mosquitto is not installed."""
    config = write_broker_directory(directory, FLEET, port=free_port(), cloud_names=("cloud", "cloud-2"))
    try:
        broker = Broker(config)
    except BrokerNotFoundError as error:
        pytest.skip(str(error))
    broker.start()
    return FleetBroker(config, broker)


@pytest.fixture(scope="session")
def fleet_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetBroker]:
    """One broker for the whole test session; tests use their own device names and so do not meet.

    Who listens to all devices at once takes a broker of its own: others' may still be on their way.
    """
    fleet = start_fleet_broker(tmp_path_factory.mktemp("broker"))
    yield fleet
    fleet.broker.stop()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[FleetBroker]:
    """A broker for one test, which may kill it."""
    fleet = start_fleet_broker(tmp_path / "broker")
    yield fleet
    fleet.broker.stop()


@pytest.fixture
def peer(fleet_broker: FleetBroker) -> Iterator[Callable[..., Peer]]:
    """Connects peers to the session's broker by device name, and closes them after the test."""
    peers: list[Peer] = []

    def connect(name: str, **options: Any) -> Peer:
        identity = fleet_broker.cloud(name) if name.startswith("cloud") else fleet_broker.device(name)
        peers.append(Peer(fleet_broker, identity, **options))
        return peers[-1]

    yield connect
    for each in peers:
        each.close()
