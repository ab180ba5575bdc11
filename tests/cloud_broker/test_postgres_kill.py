"""PostgreSQL killed under two real workers: what a device was told is kept, and what was not it says again."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from cloud_broker.storage.copying import copy_state
from cloud_broker.storage.ledger import Ledger
from cloud_broker.storage.place import Place, StorageOptions
from protocol.messages import Accepted, Busy, Report
from tests.broker_fixtures import WAIT_S, FleetBroker, Peer
from tests.cloud_broker.test_workers import config_file, supervised
from tests.postgres import PostgresServer

_REPORTS = 24
_BUSY_S = 0.05
_KILLS = {6: "server", 12: "backends", 18: "server"}

pytestmark = pytest.mark.broker


def _say_until_accepted(device: Peer, report: Report, message_id: str) -> None:
    """As a device does."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        device.say(report, message_id)
        answer = device.hear("accepted", "busy").message
        if answer == Accepted(message_id):
            return
        time.sleep(_BUSY_S)  # it would be told the same at once
    raise AssertionError(f"{message_id} was never accepted")


@pytest.mark.slow
def test_postgresql_is_killed_under_load_and_nothing_acknowledged_is_lost(
    own_broker: FleetBroker, own_postgres: PostgresServer, state_dir: Path
) -> None:
    """The server with all its processes, then those that serve the workers; no worker ends, each report is there once.

    Slow for the start of two workers.
    """
    url = own_postgres.create("cloud")
    path = config_file(own_broker, state_dir)
    path.write_text(path.read_text() + f'[storage]\ndatabase_url = "{url}"\n')
    place = Place(state_dir, StorageOptions(database_url=url))
    copy_state(Place(state_dir), place, lambda _line: None)
    with supervised(path) as running, Peer(own_broker, own_broker.device("dev-a")) as device:
        device.listen()
        for number in range(_REPORTS):
            report, message_id = Report(f"round-{number}", 1, {"number": number}), f"report-{number}"
            if (kill := _KILLS.get(number)) == "server":
                own_postgres.kill()
                device.say(report, message_id)
                assert isinstance(device.hear("busy").message, Busy)
                own_postgres.start()
            elif kill == "backends":
                own_postgres.kill_backends()
            _say_until_accepted(device, report, message_id)
        assert running.failure is None
        assert not [event for event in running.events if event["event"] == "ended"]
    with closing(Ledger(place)) as ledger:
        assert [record["number"] for _, record in ledger.reports("dev-a")] == list(range(_REPORTS))
