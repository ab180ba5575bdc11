"""A whole fleet on this machine: its directory, its broker, its enrolment service."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud_broker.errors import BrokerNotFoundError
from cloud_broker.membership.enrolment import EnrolmentServer
from cloud_broker.membership.fleet import Fleet, new_token
from cloud_broker.membership.identity import Identity
from cloud_broker.mosquitto.broker import Broker, write_broker_directory
from edge.config import EdgeConfig, load_config
from edge.tunnel import enrolment
from edge.tunnel.enrolment import enrol
from protocol.enrolment import EnrolmentToken
from tests.broker_fixtures import FLEET, FleetBroker
from tests.ports import free_port

HOUR_S = 3600.0


@dataclass(frozen=True)
class Town:
    """A fleet with all its services running."""

    directory: Path
    broker: FleetBroker
    server: EnrolmentServer
    homes: Path

    def token(self, device: str) -> EnrolmentToken:
        """An invitation."""
        return new_token(self.directory, device, HOUR_S)

    def join(self, device: str) -> EdgeConfig:
        """Enrol a device as a board does, in a folder of its own."""
        return load_config(enrol(self.token(device).to_text(), self.homes / device))

    def ask(self, path: str, body: dict[str, Any], shown: Path | None = None) -> dict[str, Any]:
        """Say something to the enrolment service, with or without a certificate."""
        context = ssl.create_default_context(cafile=str(self.broker.config.authority().ca_file))
        if shown is not None:
            context.load_cert_chain(shown, shown)
        return enrolment._ask("localhost", self.server.port, context, path, body)

    def identity(self, device: str) -> Identity:
        """What an enrolled device shows."""
        home = self.homes / device
        return Identity(device, home / "ca.crt", home / "identity.pem", home / "identity.pem")


@pytest.fixture
def own_town(tmp_path: Path) -> Iterator[Town]:
    """One fleet for one test, which may stop its broker."""
    yield from _town(tmp_path)


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One fleet for all tests, which use names of their own."""
    yield from _town(tmp_path_factory.mktemp("town"))


def _town(folder: Path) -> Iterator[Town]:
    directory = folder / "fleet"
    broker_port = free_port()
    Fleet.create(directory, Fleet(FLEET, "localhost", broker_port, 1))
    config = write_broker_directory(directory, FLEET, port=broker_port)
    try:
        broker = Broker(config)
    except BrokerNotFoundError as error:
        pytest.skip(str(error))
    with broker, EnrolmentServer(directory, "127.0.0.1", 0, ("localhost",)) as server:
        Fleet.create(directory, Fleet(FLEET, "localhost", broker_port, server.port))
        yield Town(directory, FleetBroker(config, broker), server, folder / "homes")
