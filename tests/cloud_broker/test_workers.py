"""A cloud of several processes over a real Mosquitto: killed and drained parts lose nothing, and tell how they are."""

from __future__ import annotations

import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_broker.config import CloudConfig, load_config
from cloud_broker.errors import ConfigError, ProcessFailedError
from cloud_broker.models.registry import Registry
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.storage.ledger import Ledger
from cloud_broker.workers.supervisor import Supervisor
from protocol.batch_codec import decode_batch, encode_batch
from protocol.messages import (
    Accepted,
    Busy,
    Contribution,
    Forget,
    Match,
    Query,
    Refusal,
    RefusalCode,
    Report,
    Task,
)  # fmt: skip
from tests.broker_fixtures import FLEET, WAIT_S, FleetBroker, Peer
from tests.cloud_broker.conftest import Trained, query_for
from tests.cloud_broker.samples import SCHEMA, user_samples
from tests.cloud_broker.test_service import pull
from tests.coda.running import settled
from tests.ports import free_port

pytestmark = pytest.mark.broker


def config_file(fleet: FleetBroker, state_dir: Path, **values: Any) -> Path:
    """A configuration for two workers."""
    identity = fleet.cloud()
    fleet.cloud("cloud-2")
    told = {
        "fleet": FLEET, "host": fleet.host, "port": fleet.port, "state_dir": str(state_dir),
        "ca_file": str(identity.ca_file), "cert_file": str(identity.cert_file), "key_file": str(identity.key_file),
        **values,
    }  # fmt: skip
    path = state_dir.parent / "cloud.toml"
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in told.items()))
    return path


class Running:
    """A supervisor in a thread of the test, and what it told."""

    def __init__(self, path: Path, workers: int = 2) -> None:
        self.events: list[dict[str, Any]] = []
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self._changed = threading.Condition()
        self.supervisor = Supervisor(path, load_config(path), workers, self._note)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.supervisor.run(self.stop)
        except BaseException as error:
            self.failure = error
        self._note({"event": "over"})

    def _note(self, event: dict[str, Any]) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, *names: str, after: int = 0) -> dict[str, Any]:
        """The first event of one of these names, from the n-th event on."""
        return self.wait_until(lambda event: event["event"] in names, after)

    def wait_until(self, wanted: Callable[[dict[str, Any]], bool], after: int = 0) -> dict[str, Any]:
        """The first event that is wanted, from the n-th event on."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events[after:] if wanted(event)]

        with self._changed:
            assert self._changed.wait_for(found, 60), self.events
            return found()[0]

    def pid(self, name: str) -> int:
        """Of a part."""
        pid = next(part.pid for part in [self.supervisor.tender, *self.supervisor.workers] if part.name == name)
        assert pid is not None
        return pid


def told_by(part: str, *names: str) -> Callable[[dict[str, Any]], bool]:
    """Whether an event is of one of these names, and of that part."""
    return lambda event: event["event"] in names and event.get("part") == part


@contextmanager
def supervised(path: Path) -> Iterator[Running]:
    """Two workers while the body runs."""
    running = Running(path)
    running.thread.start()
    try:
        running.wait_for("serving", "over")
        assert running.failure is None
        yield running
    finally:
        running.stop.set()
        running.thread.join(60)
    assert not running.thread.is_alive()


@pytest.mark.slow
def test_two_workers_share_what_devices_say_and_one_pool(own_broker: FleetBroker, state_dir: Path) -> None:
    """Matches, contributions and reports are answered whoever takes them up; what is forgotten is so for both."""
    path = config_file(own_broker, state_dir, observe_port=(port := free_port(3)))
    with supervised(path) as running, Peer(own_broker, own_broker.device("dev-a")) as device:
        device.listen()
        with closing(Registry(state_dir)) as registry:
            model = registry.latest()
            assert model is not None
            for number in range(4):
                device.say(query_for(registry, model, user_samples(1), f"q{number}"), f"query-{number}")
                match = device.hear("match").message
                assert isinstance(match, Match)
                assert match.samples is not None
                assert len(decode_batch(pull(device, match.samples), SCHEMA)) == match.count == 50
        for number in range(4):
            device.say(Contribution(encode_batch(user_samples(90 + number))), f"gift-{number}")
            assert device.hear("accepted").message == Accepted(f"gift-{number}")
            device.say(Report(f"round-{number}", 1, {}), f"report-{number}")
            assert device.hear("accepted").message == Accepted(f"report-{number}")
        device.say(Contribution(b"nonsense"), "bad")
        refusal = device.hear("refusal").message
        assert isinstance(refusal, Refusal)
        assert refusal.code == RefusalCode.MALFORMED
        for part in ("cloud", "cloud-2"):  # whose words come over a pipe of its own, later than its answers
            running.wait_until(told_by(part, "contributed", "reported"))
        _check_what_is_told(port)
        device.say(Forget(), "forget")
        assert device.hear("accepted").message == Accepted("forget")
    assert running.events[-2] == {"event": "stopped"}
    with closing(SamplePool(state_dir / "pool")) as pool:
        assert pool.contributor_number("dev-a") not in pool.contributors
    with closing(Ledger(state_dir)) as ledger:
        assert len(ledger.reports("dev-a")) == 4
        assert all(ledger.data_use.of(worker) for worker in ("cloud", "cloud-2"))


def _check_what_is_told(port: int) -> None:
    """The supervisor tells of its parts, each worker of itself."""
    assert ask(port, "/readyz") == (200, "ok\n")
    assert 'coda_part_up{part="cloud-2"} 1.0' in ask(port, "/metrics")[1]
    assert all("coda_connected 1.0" in ask(port + number, "/metrics")[1] for number in (1, 2))
    settled(lambda: sum(_reports(port + number) for number in (1, 2)) == 4)  # counted after they are answered


def _reports(port: int) -> float:
    """How many reports a worker counts."""
    counted = 'coda_messages_total{kind="report"}'
    lines = [line for line in ask(port, "/metrics")[1].splitlines() if line.startswith(counted)]
    return sum(float(line.split()[1]) for line in lines)


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and text of an answer on loopback."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.slow
def test_whatever_is_killed_comes_back_and_nothing_acknowledged_is_lost(
    own_broker: FleetBroker, state_dir: Path
) -> None:
    """The tender, a worker and the broker are killed while a device gives samples: all it was told are kept, once."""
    given = [user_samples(200 + number, 10) for number in range(30)]
    kills = {5: "cloud-2", 12: "tender", 20: "broker", 25: "cloud"}
    with supervised(config_file(own_broker, state_dir)) as running:
        device = Peer(own_broker, own_broker.device("dev-a"), persistent=True)
        device.listen()
        for number, batch in enumerate(given):
            if (who := kills.get(number)) == "broker":
                own_broker.broker.kill()
                own_broker.broker.start()
                device.close()
                device = Peer(own_broker, own_broker.device("dev-a"), persistent=True)
                device.listen()
            elif who is not None:
                os.kill(running.pid(who), signal.SIGKILL)
            _give(device, Contribution(encode_batch(batch)), f"gift-{number}")
        device.close()
        for part in set(kills.values()) - {"broker"}:
            running.wait_until(told_by(part, "ended"))
        assert running.failure is None
    with closing(SamplePool(state_dir / "pool")) as pool:
        mine = pool.contributors == pool.contributor_number("dev-a")
        assert mine.sum() == 300
    assert {event["part"] for event in running.events if event["event"] == "ended"} == {"cloud", "cloud-2", "tender"}


def _give(device: Peer, gift: Contribution, message_id: str) -> None:
    """Say it until it is accepted, as a device does."""
    for _ in range(60):
        device.say(gift, message_id)
        try:
            while (message := device.hear_within(1.0).message) != Accepted(message_id):
                assert isinstance(message, (Accepted, Busy)), message
        except TimeoutError:
            continue
        return
    raise AssertionError(f"{message_id} was never accepted")


@pytest.mark.slow
def test_a_newer_model_is_taken_up_while_devices_of_both_ask(
    own_broker: FleetBroker, state_dir: Path, trained_again: Trained
) -> None:
    """The old model answers while the pool is embedded, also where the tender is killed at that; then both do.

    No worker is restarted for it, and devices have the new task: one that asks nothing listens, for whichever
    message comes first to the other.
    """
    path = config_file(own_broker, state_dir, devices=["dev-a", "dev-b"], observe_port=(port := free_port(3)))
    with (
        closing(Registry(state_dir)) as registry,
        supervised(path) as running,
        closing(SamplePool(state_dir / "pool")) as pool,
        Peer(own_broker, own_broker.device("dev-a")) as device,
        Peer(own_broker, own_broker.device("dev-b")) as listener,
    ):
        old = running.wait_for("worker")["recommender_sha256"]
        device.listen()
        listener.listen()
        assert _task(listener).recommender.sha256 == old
        before = registry.latest()
        assert before is not None
        with pool.locked():  # embedding waits for its turn, answering does not
            new = trained_again.publish(registry)
            assert _answer(device, query_for(registry, before, user_samples(1), "q1")) == 50
            assert _answer(device, query_for(registry, new, user_samples(1), "q2")) == RefusalCode.UNKNOWN_MODEL
            share = [line for line in ask(port + 1, "/metrics")[1].splitlines() if line.startswith("coda_embedded")]
            assert share == ["coda_embedded_share 0.0"]
            told = len(running.events)
            os.kill(running.pid("tender"), signal.SIGKILL)
            running.wait_for("started", after=told)
            assert _answer(device, query_for(registry, before, user_samples(1), "q3")) == 50
        running.wait_for("embedded")
        for number, model in enumerate([before, new] * 4):  # whichever worker hears it
            assert _answer(device, query_for(registry, model, user_samples(1), f"both-{number}")) == 50
        assert _task(listener).recommender == new.recommender
        for part in ("cloud", "cloud-2"):
            running.wait_until(told_by(part, "taken-up"))
    assert {event["part"] for event in running.events if event["event"] == "ended"} == {"tender"}


def _task(device: Peer) -> Task:
    task = device.hear("task").message
    assert isinstance(task, Task)
    return task


def _answer(device: Peer, query: Query) -> int | str:
    """How many samples a query is answered with, or the code of its refusal."""
    device.say(query, f"message-{query.query_id}")
    answer = device.hear("match", "refusal").message
    if isinstance(answer, Refusal):
        return answer.code
    assert isinstance(answer, Match)
    assert answer.query_id == query.query_id
    return answer.count


def test_a_worker_without_a_certificate_is_told_how_to_get_one(own_broker: FleetBroker, state_dir: Path) -> None:
    """More workers than the broker knows is an error before anything starts."""
    path = config_file(own_broker, state_dir)
    with pytest.raises(ConfigError, match=r"worker 3 needs .*cloud-3\.crt.*--workers 3"):
        Supervisor(path, load_config(path), 3)
    with pytest.raises(ConfigError, match="from 1 to 64"):
        Supervisor(path, load_config(path), 65)


@pytest.mark.slow
def test_a_part_that_cannot_start_ends_the_cloud(own_broker: FleetBroker, state_dir: Path) -> None:
    """Where no broker is, the workers say so and the supervisor gives up, instead of trying for ever."""
    path = config_file(own_broker, state_dir, port=free_port())
    running = Running(path)
    running.thread.start()
    running.thread.join(60)
    assert isinstance(running.failure, ProcessFailedError)
    assert "cloud" in str(running.failure)


def test_workers_are_named_after_the_first(tmp_path: Path) -> None:
    """Names, certificates and keys follow from the first's."""
    (tmp_path / "cloud-2.crt").touch()
    (tmp_path / "cloud-2.key").touch()
    first = CloudConfig(
        fleet="test", host="localhost", port=1, ca_file=tmp_path / "ca.crt", cert_file=tmp_path / "cloud.crt",
        key_file=tmp_path / "cloud.key", state_dir=tmp_path,
    )  # fmt: skip
    assert first.of_worker(1) is first
    second = first.of_worker(2)
    assert (second.worker, second.cert_file, second.key_file) == (
        "cloud-2", tmp_path / "cloud-2.crt", tmp_path / "cloud-2.key",
    )  # fmt: skip
