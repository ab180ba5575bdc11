"""A state folder is served by one service at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cloud_broker.errors import StorageError
from cloud_broker.files import serve_alone
from cloud_broker.service import CloudService
from cloud_broker.workers.supervisor import Supervisor
from tests.broker_fixtures import FleetBroker
from tests.cloud_broker.test_service import config_of

pytestmark = pytest.mark.broker


def test_a_state_folder_is_served_once(own_broker: FleetBroker, tmp_path: Path) -> None:
    """A second service is refused, by one process or several: their workers would end each other's connections."""
    config = config_of(own_broker, tmp_path)
    with serve_alone(tmp_path):
        with pytest.raises(StorageError, match="is served already"):
            CloudService(config).run(threading.Event())
        supervisor = Supervisor(tmp_path / "cloud.toml", config, 1)
        with pytest.raises(StorageError, match="is served already"):
            supervisor.run(threading.Event())
    with pytest.raises(StorageError, match="no pool"):
        CloudService(config).run(threading.Event())
