"""The device's account of its bytes, and the month's budget."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from benchmarks.chaos import ChaosProxy
from edge.errors import DataBudgetError
from edge.service import EdgeService
from edge.storage.blobs import BlobStore
from edge.storage.database import Database
from edge.tunnel.data_budget import LEAST_MATCH_BYTES, ROUND_BYTES, DataBudget
from edge.tunnel.link import Link
from profiling.data_use import DataUse, Metering
from profiling.network import NetworkBytes
from protocol.envelope import encode
from protocol.messages import BlobRef, Chunk, Hello, Report, Task
from protocol.purposes import CONTROL, MODEL, PURPOSES, REPORT, SAMPLES
from protocol.topics import MAX_CHUNK_BYTES
from tests.broker_fixtures import FLEET, FleetBroker, Peer
from tests.edge.test_link import WAIT_S, config_for

JANUARY_31, FEBRUARY_1 = 1769860800.0, 1769904000.0  # 12:00 and 0:00 UTC, 2026
USED = {MODEL: NetworkBytes(1, 20, 3, 40, 5, 60), CONTROL: NetworkBytes(1, 1, 1, 1, 1, 1)}


class TestDataUse:
    """What is written down."""

    def test_adds_up_by_day_and_round(self, tmp_path: Path) -> None:
        """Days and rounds are kept apart, and survive."""
        now = [JANUARY_31]
        with Database(tmp_path / "d.db") as database:
            use = DataUse(database, lambda: now[0])
            use.add(USED, "r1")
            use.add(USED, "r1")
            use.add(USED)
            now[0] = FEBRUARY_1
            use.add(USED, "r1")
        with Database(tmp_path / "d.db") as database:
            use = DataUse(database, lambda: now[0])
            assert use.of("r1")[MODEL]["tcp_down_bytes"] == 180
            assert use.of("r2") == {}
            assert [(d.day, d.purpose) for d in use.by_day()] == [
                (day, purpose) for day in ("2026-01-31", "2026-02-01") for purpose in (CONTROL, MODEL)
            ]
            assert use.by_day()[1].used.tcp_down == 180
            assert use.charged_this_month() == 65 + 2

    def test_without_tcps_counters_mqtts_are_charged(self, tmp_path: Path) -> None:
        """None stays None in the account, and the budget still holds."""
        with Database(tmp_path / "d.db") as database:
            use = DataUse(database)
            use.add({MODEL: NetworkBytes(1, 20, 3, 40, None, None)}, "r1")
            assert use.of("r1")[MODEL]["tcp_up_bytes"] is None
            assert use.charged_this_month() == 43

    def test_forgets_after_a_year(self, tmp_path: Path) -> None:
        """The account is bounded."""
        now = [JANUARY_31]
        with Database(tmp_path / "d.db") as database:
            use = DataUse(database, lambda: now[0])
            use.add(USED)
            now[0] += 401 * 24 * 3600
            use.add(USED)
            assert {day.day for day in use.by_day()} == {"2027-03-08"}

    def test_a_meter_writes_only_what_is_new(self, tmp_path: Path) -> None:
        """Settling twice counts once, and small sums can wait."""
        read = [dict.fromkeys(PURPOSES, NetworkBytes(tcp_up=0, tcp_down=0))]
        with Database(tmp_path / "d.db") as database:
            use = DataUse(database)
            meter = Metering(lambda: read[0], use)
            read[0] = {**read[0], MODEL: NetworkBytes(0, 10, 0, 20, 0, 30)}
            meter.settle("r1", least_bytes=100)
            assert use.by_day() == []
            meter.settle("r1")
            meter.settle("r1")
            assert [day.used for day in use.by_day()] == [NetworkBytes(0, 10, 0, 20, 0, 30)]


class TestBudget:
    """What a month allows."""

    TASK = Task(3, {}, {}, BlobRef("a" * 64, 1_000_000), BlobRef("b" * 64, 1000))

    def _budget(self, database: Database, monthly_bytes: int | None) -> DataBudget:
        use = DataUse(database, lambda: JANUARY_31)
        if not use.by_day():
            use.add({MODEL: NetworkBytes(0, 0, 0, 0, 0, 50_000)})
        return DataBudget(use, monthly_bytes, lambda: JANUARY_31)

    def test_a_round_that_does_not_fit_is_not_begun(self, tmp_path: Path) -> None:
        """The error tells what is left, what is needed, and when there is more; files on disk cost nothing."""
        with Database(tmp_path / "d.db") as database:
            blobs = BlobStore(tmp_path / "blobs")
            with pytest.raises(DataBudgetError, match=r"50000 of .* 1000000 .* 950000 bytes are left, .* in 12 h"):
                self._budget(database, 1_000_000).check_round(self.TASK, blobs)
            self._budget(database, 2_000_000).check_round(self.TASK, blobs)
            self._budget(database, None).check_round(self.TASK, blobs)

    def test_matched_samples_get_what_fits(self, tmp_path: Path) -> None:
        """All that is wanted, then less, but never less than a few."""
        with Database(tmp_path / "d.db") as database:
            assert self._budget(database, None).match_bytes(500_000) == 500_000
            assert self._budget(database, 10_000_000).match_bytes(500_000) == 500_000
            assert 180_000 < self._budget(database, 300_000).match_bytes(500_000) < 200_000
            assert self._budget(database, 100_000).match_bytes(500_000) == LEAST_MATCH_BYTES
            assert self._budget(database, 100_000).match_bytes(100) == 100

    def test_a_new_month_begins_with_nothing_used(self, tmp_path: Path) -> None:
        """Months are those of the calendar, UTC."""
        with Database(tmp_path / "d.db") as database:
            budget = self._budget(database, 40_000)
            with pytest.raises(DataBudgetError, match="nothing is left"):
                budget.check_any_left()
            assert budget.next_month_s == 12 * 3600
            later = DataUse(database, lambda: FEBRUARY_1)
            DataBudget(later, 40_000, lambda: FEBRUARY_1).check_any_left()

    @pytest.mark.broker
    def test_a_device_without_data_left_does_not_connect(self, fleet_broker: FleetBroker, tmp_path: Path) -> None:
        """Neither once nor as a service, which says so and waits; not a byte goes to the broker."""
        with Database(tmp_path / "device.db") as database:
            DataUse(database).add({MODEL: NetworkBytes(0, 0, 0, 0, 0, 5_000)})
        with ChaosProxy(fleet_broker.host, fleet_broker.port) as line:
            config = replace(
                config_for(fleet_broker, "budget-1", tmp_path), port=line.port, data_budget_bytes_per_month=5_000
            )
            with pytest.raises(DataBudgetError, match="nothing is left"):
                EdgeService(config).run_once()
            stop, events = threading.Event(), list[dict[str, object]]()

            def on_event(event: dict[str, object]) -> None:
                events.append(event)
                stop.set()

            EdgeService(config, on_event).run_forever(stop)
            assert events[0]["event"] == "over-budget"
            assert line.carried_bytes == (0, 0)


@pytest.mark.broker
def test_purposes_sum_to_what_the_line_carried(
    fleet_broker: FleetBroker, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    """Both ways, as a proxy counts it that knows nothing of MQTT or TLS; each message counts for what it is."""
    cloud = peer("cloud")
    assert not cloud.subscribe(f"coda/v1/{FLEET}/data-1/up/+").is_failure
    with ChaosProxy(fleet_broker.host, fleet_broker.port) as line:
        config = replace(config_for(fleet_broker, "data-1", tmp_path), port=line.port)
        with Link(config) as link:
            link.open(WAIT_S)
            link.send("hello", encode(Hello("1", "runtime", "board", ()), "m1"), WAIT_S)
            with link.transferring(SAMPLES):
                _receive(link, cloud, bytes(30_000))
            with link.transferring(MODEL):
                _receive(link, cloud, bytes(60_000))
            link.send("report", encode(Report("r1", 1, {"x": "y" * 5000}), "m2"), WAIT_S)
            cloud.hear("report")
            while not link.everything_sent:  # the broker's last acknowledgement is the last that the line carries
                link.receive(0.01)
            by_purpose, total = link.network_by_purpose(), link.network()
            assert sum(by_purpose.values(), start=NetworkBytes(tcp_up=0, tcp_down=0)) == total
            assert (total.tcp_up, total.tcp_down) == line.carried_bytes
    assert 30_000 < by_purpose[SAMPLES].payload_down < by_purpose[SAMPLES].mqtt_down < 30_400
    assert 60_000 < by_purpose[MODEL].mqtt_down < 60_400
    assert 5_000 < by_purpose[REPORT].mqtt_up < 5_400
    counts = {purpose: astuple(used) for purpose, used in by_purpose.items()}
    assert counts[CONTROL][4] > 1_000  # TCP bytes up: the handshake has our certificate
    assert all(count >= 0 for used in counts.values() for count in used)


@pytest.mark.broker
def test_counts_go_on_over_connections(fleet_broker: FleetBroker, peer: Callable[..., Peer], tmp_path: Path) -> None:
    """A cut loses no count and starts none anew, and the purposes still sum to the whole."""
    cloud = peer("cloud")
    assert not cloud.subscribe(f"coda/v1/{FLEET}/data-2/up/+").is_failure
    with ChaosProxy(fleet_broker.host, fleet_broker.port) as line:
        with Link(replace(config_for(fleet_broker, "data-2", tmp_path), port=line.port)) as link:
            link.send("report", encode(Report("r1", 1, {"x": "y" * 5000}), "m1"), WAIT_S)
            cloud.hear("report")
            before = link.network_by_purpose()
            line.cut()
            link.send("report", encode(Report("r2", 1, {"x": "y" * 5000}), "m2"), WAIT_S)
            cloud.hear("report")
        after = link.network_by_purpose()
        assert sum(after.values(), start=NetworkBytes(tcp_up=0, tcp_down=0)) == link.network()
    assert all(count >= 0 for purpose in PURPOSES for count in astuple(after[purpose] - before[purpose]))
    assert after[REPORT].payload_up > 10_000


def _receive(link: Link, cloud: Peer, data: bytes) -> None:
    cloud.say(Chunk("a" * 64, 0, 0, data, MAX_CHUNK_BYTES), "c", device="data-1")
    while (delivery := link.receive(WAIT_S)) is not None:
        link.acknowledge(delivery)
        if delivery.kind == "chunk":
            return
    pytest.fail("no chunk came")


def test_round_bytes_leave_room_for_samples() -> None:
    """What a round is assumed to take beside files is small beside a usual match."""
    assert ROUND_BYTES + LEAST_MATCH_BYTES < 64 << 10
