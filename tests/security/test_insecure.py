"""The one way in without TLS: asked for by name, on loopback alone, for reading alone, and loud."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cloud_broker.errors import BrokerError
from cloud_broker.mosquitto.broker import Broker, BrokerConfig, write_broker_directory
from cloud_broker.mosquitto.probe import Probe
from protocol.messages import Presence
from tests.broker_fixtures import FLEET, FleetBroker, Peer
from tests.ports import free_port

ANYWHERE = "0.0.0.0"  # noqa: S104 - what a real broker listens on

pytestmark = pytest.mark.broker


def test_it_reads_everything_and_writes_nothing(tmp_path: Path) -> None:
    """A tool without a certificate hears a device and cannot speak; everyone else still needs one."""
    port, insecure = free_port(), free_port()
    config = write_broker_directory(tmp_path, FLEET, ANYWHERE, port, insecure_port=insecure)
    assert BrokerConfig.open(tmp_path) == config
    with Broker(config) as broker, Probe("127.0.0.1", insecure, "tool", None) as tool:
        fleet = FleetBroker(config, broker)
        tool.subscribe("coda/v1/#")
        with Peer(fleet, fleet.device("dev-a")) as device:
            assert not device.say(Presence(True), "m").is_failure
            assert len(tool.hear(1)) == 1
            device.listen()
            tool.publish(f"coda/v1/{FLEET}/dev-a/down/task", b"forged")
            assert device.inbox.empty()
        with pytest.raises(Exception, match=r"127\.0\.0\.1"):
            Probe("127.0.0.1", port, "tool", None)


def test_it_is_on_loopback_whatever_the_broker_listens_on(tmp_path: Path) -> None:
    """The broker listens on all addresses; the insecure port on one."""
    port, insecure = free_port(), free_port()
    config = write_broker_directory(tmp_path, FLEET, ANYWHERE, port, insecure_port=insecure)
    listening = [
        line.split()[1:] for line in config.config_file.read_text().splitlines() if line.startswith("listener")
    ]
    assert listening == [[str(port), ANYWHERE], [str(insecure), "127.0.0.1"]]
    with Broker(config), socket.socket() as probe:
        probe.bind(("127.0.0.2", insecure))  # free, so nobody listens on all addresses


def test_it_is_never_there_unasked(tmp_path: Path) -> None:
    """The default has one listener, with TLS and certificates."""
    config = write_broker_directory(tmp_path, FLEET, port=free_port())
    text = config.config_file.read_text()
    assert text.count("listener ") == 1
    assert "allow_anonymous true" not in text
    with pytest.raises(BrokerError, match="port 0"):
        write_broker_directory(tmp_path, FLEET, port=free_port(), insecure_port=0)
