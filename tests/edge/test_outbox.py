"""The outbox: its bound, what it says of losses, looking into it, and emptying it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import LinkTimeoutError, OutboxFullError, StoreBusyError, StoreError
from edge.storage.database import Database
from edge.storage.store import Store
from edge.tunnel.flush import flush_outbox
from edge.tunnel.outbox import GAVE_WAY, NO_ROOM, Loss, Outbox
from protocol.messages import Accepted, Contribution, Report
from tests.broker_fixtures import FLEET, FleetBroker, Peer
from tests.edge.test_link import config_for


def test_what_gives_way_is_counted(tmp_path: Path) -> None:
    """Oldest reports first, and their number and bytes stay known."""
    with Database(tmp_path / "box.db") as database:
        box = Outbox(database, limit_bytes=2000)
        ids = [box.add(Report(f"r{number}", 1, {"x": "y" * 500})) for number in range(5)]
        assert [entry.message_id for entry in box.entries()] == ids[2:]
        size = box.entries()[0].size_bytes
        assert box.losses() == [Loss("report", GAVE_WAY, 2, 2 * size)]


def test_a_message_without_room_takes_nothing_with_it(tmp_path: Path) -> None:
    """It is refused with an error and counted; reports do not give way to what would not fit even then."""
    with Database(tmp_path / "box.db") as database:
        box = Outbox(database, limit_bytes=2000)
        box.add(Contribution(bytes(1000)))
        report = box.add(Report("r", 1, {}))
        with pytest.raises(OutboxFullError, match="must reach its broker first"):
            box.add(Contribution(bytes(1500)))
        assert report in box
        [loss] = box.losses()
        assert (loss.kind, loss.why, loss.messages) == ("contribution", NO_ROOM, 1)


def test_a_count_of_a_refusal_that_was_borne_survives(tmp_path: Path) -> None:
    """A step that goes on without the message keeps both its own changes and the count."""
    with Database(tmp_path / "box.db") as database:
        box = Outbox(database, limit_bytes=100)
        with database.transaction() as rows:
            rows.execute("INSERT INTO schemas VALUES ('d', 'f')")
            with pytest.raises(OutboxFullError):
                box.add(Contribution(bytes(500)))
        assert database.rows("SELECT digest FROM schemas") == [("d",)]
        assert box.losses()[0].messages == 1


def test_a_letter_is_found_by_the_begin_of_its_id(tmp_path: Path) -> None:
    """If it is the only one that begins so."""
    with Database(tmp_path / "box.db") as database:
        box = Outbox(database)
        ids = [box.add(Report(f"r{number}", 1, {})) for number in range(3)]
        found = box.letter(ids[1][:12])
        assert found is not None
        assert found.message_id == ids[1]
        assert box.letter("") is None
        assert box.letter("no such") is None


def test_everything_committed_is_on_the_disk(tmp_path: Path) -> None:
    """What is acknowledged after a commit has outlived a power cut: FULL makes SQLite sync the log at each commit."""
    with Database(tmp_path / "box.db") as database:
        assert database.rows("PRAGMA synchronous") == [(2,)]
        assert database.rows("PRAGMA journal_mode") == [("wal",)]


class TestReadOnly:
    """Looking into a store that another process uses."""

    def test_sees_what_is_there_and_changes_nothing(self, tmp_path: Path) -> None:
        """Beside an open store, and as it goes on."""
        with Store(tmp_path) as store:
            store.outbox.add(Report("r1", 1, {}))
            with Database(tmp_path / "device.db", read_only=True) as database:
                box = Outbox(database)
                assert len(box.entries()) == 1
                store.outbox.add(Report("r2", 1, {}))
                assert len(box.entries()) == 2
                with pytest.raises(StoreError, match="readonly"):
                    box.add(Report("r3", 1, {}))
                with pytest.raises(StoreError, match="readonly"):
                    box.remove(box.entries()[0].message_id)
            assert len(store.outbox.entries()) == 2

    def test_makes_no_file(self, tmp_path: Path) -> None:
        """An absent store is an error, not a new one."""
        with pytest.raises(StoreError):
            Database(tmp_path / "device.db", read_only=True)
        assert list(tmp_path.iterdir()) == []

    def test_leaves_an_older_layout_alone(self, tmp_path: Path) -> None:
        """The service upgrades it, a reader does not."""
        Database(tmp_path / "device.db", ["CREATE TABLE t (x);"]).close()
        with pytest.raises(StoreError, match="layout 1 is not this program's"):
            Database(tmp_path / "device.db", read_only=True)


@pytest.mark.broker
class TestFlush:
    """Emptying it on demand."""

    def _accept_all(self, cloud: Peer, device: str, count: int) -> None:
        for number in range(count):
            cloud.say(Accepted(cloud.hear("report", "contribution").message_id), f"a{number}", device=device)

    def test_delivers_what_waits(self, fleet_broker: FleetBroker, peer: Callable[..., Peer], tmp_path: Path) -> None:
        """Everything goes, and its bytes are accounted for."""
        cloud = peer("cloud")
        assert not cloud.subscribe(f"coda/v1/{FLEET}/flush-1/up/+").is_failure
        with Store(tmp_path) as store:
            for number in range(3):
                store.outbox.add(Report(f"r{number}", 1, {}))
        answering = threading.Thread(target=self._accept_all, args=[cloud, "flush-1", 3], daemon=True)
        answering.start()
        assert flush_outbox(config_for(fleet_broker, "flush-1", tmp_path), 15) == 3
        answering.join()
        with Store(tmp_path) as store:
            assert store.outbox.entries() == []
            assert store.data_use.charged_this_month() > 3 * 50

    def test_waits_for_a_running_service(self, fleet_broker: FleetBroker, tmp_path: Path) -> None:
        """It opens no second connection of the device's name; it returns when the service has delivered."""
        config = config_for(fleet_broker, "flush-2", tmp_path)
        with Store(tmp_path) as store:
            sent = store.outbox.add(Report("r", 1, {}))
            with pytest.raises(StoreBusyError):
                Store(tmp_path)
            with pytest.raises(LinkTimeoutError, match="running service has not delivered 1"):
                flush_outbox(config, 0)
            found: list[int] = []
            waiting = threading.Thread(target=lambda: found.append(flush_outbox(config, 15)), daemon=True)
            waiting.start()
            store.outbox.remove(sent)
            waiting.join()
            assert found in ([1], [0])  # 0 if it looked only after the removal

    def test_has_nothing_to_do_without_letters(self, fleet_broker: FleetBroker, tmp_path: Path) -> None:
        """And does not connect for it."""
        with Store(tmp_path):
            pass
        assert flush_outbox(config_for(fleet_broker, "flush-3", tmp_path), 0) == 0
