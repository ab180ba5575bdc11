"""The MQTT client as a device sets it up; what is said over it is not its concern."""

from __future__ import annotations

import uuid
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.config import EdgeConfig
from edge.tunnel.tls import device_context, use_newest
from profiling.traffic import Traffic
from protocol import topics
from protocol.envelope import encode
from protocol.messages import Presence

KEEPALIVE_S = 60
SESSION_EXPIRY_S = 7 * 24 * 3600  # how long the broker keeps our subscription and queue while we are away


def new_client(config: EdgeConfig) -> mqtt.Client:
    """A client that leaves reconnecting, acknowledging and all writing to its owner's loop; `secure` it before use."""
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=config.device,
        protocol=mqtt.MQTTv5,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    # Having this, paho leaves all writing to the thread that loops, and does not write from the one that publishes.
    client.on_socket_register_write = _leave_it_to_the_loop
    return client


def secure(client: mqtt.Client, config: EdgeConfig, traffic: Traffic) -> None:
    """Give a client its certificate, once; what passes over its socket is counted.

    Raises:
        CertificateError: If a certificate or key is unreadable.
    """
    context = device_context(config.ca_file, config.cert_file, config.key_file)
    context.sslsocket_class = traffic.socket_class()
    client.tls_set_context(context)
    client.on_pre_connect = lambda _client, _userdata: use_newest(context, config)


def connect(client: mqtt.Client, config: EdgeConfig) -> None:
    """Begin to connect, into the session that the broker has kept.

    Raises:
        OSError, ValueError: If there is no way to the broker.
    """
    will_topic = topics.up(config.fleet, config.device, Presence.kind)
    client.will_set(will_topic, encode(Presence(False), uuid.uuid4().hex), qos=1, retain=True)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_EXPIRY_S
    client.connect(config.host, config.port, KEEPALIVE_S, clean_start=False, properties=properties)


def release(client: mqtt.Client) -> None:
    """Close a client's sockets, also the pair that wakes its loop, once nobody loops.

    paho closes the pair when a client is forgotten. One that hangs on a cycle of references, as a traceback makes, is
    forgotten at some later time, and its sockets perhaps before it.
    """
    client.__del__()


def _leave_it_to_the_loop(_client: mqtt.Client, _userdata: Any, _socket: Any) -> None:
    """The loop sees by itself that there is something to write."""
