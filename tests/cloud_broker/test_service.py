"""The whole cloud over a real Mosquitto, spoken to by a plain MQTT client with a device's certificate."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from cloud_broker.config import CloudConfig, load_config
from cloud_broker.errors import CertificateError, CloudError, ConfigError, ConnectionFailedError, StorageError
from cloud_broker.models.registry import Registry
from cloud_broker.options import ModelOptions
from cloud_broker.pool.sample_pool import Given, SamplePool
from cloud_broker.service import CloudService
from cloud_broker.storage.ledger import Ledger
from protocol import topics
from protocol.batch_codec import decode_batch, encode_batch
from protocol.messages import (
    Accepted,
    BlobRef,
    Chunk,
    Contribution,
    Hello,
    Match,
    Pull,
    Refusal,
    RefusalCode,
    Report,
    Task,
)  # fmt: skip
from protocol.recipe import Recipe
from protocol.transfer import Download
from tests.broker_fixtures import FLEET, FleetBroker, Peer
from tests.cloud_broker.conftest import Trained, query_for
from tests.cloud_broker.samples import SCHEMA, user_samples
from tests.ports import free_port

pytestmark = pytest.mark.broker


def config_of(fleet: FleetBroker, state_dir: Path, **changes: Any) -> CloudConfig:
    """A worker's configuration against that broker."""
    identity = fleet.cloud()
    values: dict[str, Any] = {
        "fleet": FLEET, "host": fleet.host, "port": fleet.port, "state_dir": state_dir,
        "ca_file": identity.ca_file, "cert_file": identity.cert_file, "key_file": identity.key_file, **changes,
    }  # fmt: skip
    return CloudConfig(**values)


@contextmanager
def serving(config: CloudConfig) -> Iterator[list[dict[str, Any]]]:
    """Run the service in a thread while the body runs; gives its events."""
    events: list[dict[str, Any]] = []
    failures: list[BaseException] = []
    ready, stop = threading.Event(), threading.Event()

    def on_event(event: dict[str, Any]) -> None:
        events.append(event)
        if event["event"] == "serving":
            ready.set()

    def run() -> None:
        try:
            CloudService(config, on_event).run(stop)
        except BaseException as error:
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert ready.wait(60)
        if not failures:
            yield events
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def pull(device: Peer, ref: BlobRef) -> bytes:
    """Fetch a blob as a device does."""
    download, blob = Download(ref), bytearray(ref.size_bytes)
    while not download.finished:
        for chunks in download.next_pulls(0.0):
            device.say(Pull(ref.sha256, chunks), f"pull-{chunks[0]}")
        chunk = device.hear("chunk").message
        assert isinstance(chunk, Chunk)
        received = download.receive(chunk, 0.0)
        if received is not None:
            blob[received.offset : received.offset + len(received.data)] = received.data
    assert hashlib.sha256(blob).hexdigest() == ref.sha256
    return bytes(blob)


def test_a_device_goes_through_a_whole_round(own_broker: FleetBroker, state_dir: Path) -> None:
    """Task, model, matched samples, contribution and report, over mutual TLS; the report is there afterwards."""
    config = config_of(own_broker, state_dir, devices=("dev-a",))
    with serving(config) as events, Peer(own_broker, own_broker.device("dev-a")) as device:
        device.listen()
        task = device.hear("task").message
        assert isinstance(task, Task)
        assert (task.version, task.features, Recipe.from_dict(task.recipe)) == (1, SCHEMA.to_dict(), Recipe())
        registry = Registry(state_dir)
        for ref in (task.recommender, task.classifier):
            assert pull(device, ref) == registry.blobs.get(ref.sha256)
        model = registry.latest()
        assert model is not None
        device.say(query_for(registry, model, user_samples(1)), "the-query")
        match = device.hear("match").message
        assert isinstance(match, Match)
        assert match.samples is not None
        assert len(decode_batch(pull(device, match.samples), SCHEMA)) == match.count == 50
        device.say(Contribution(encode_batch(user_samples(99))), "gift")
        assert device.hear("accepted").message == Accepted("gift")
        device.say(Report("round-1", 1, {"gate": "kept"}), "report")
        assert device.hear("accepted").message == Accepted("report")
        registry.close()
    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["embedding", "serving"]
    assert kinds[2:] == ["matched", "contributed", "reported", "stopped"]
    ledger = Ledger(state_dir)
    assert ledger.reports() == [("dev-a", {"gate": "kept"})]
    used = ledger.data_use.of("cloud")
    sizes = {"model": task.recommender.size_bytes + task.classifier.size_bytes, "samples": match.samples.size_bytes}
    for purpose, size_bytes in sizes.items():
        assert size_bytes < (used[purpose]["payload_up_bytes"] or 0) < 1.1 * size_bytes + 2_000, purpose
    assert (used["report"]["payload_down_bytes"] or 0) > len("round-1")
    assert (used["query"]["mqtt_down_bytes"] or 0) > (used["query"]["payload_down_bytes"] or 0) > 100
    assert (used["control"]["tcp_up_bytes"] or 0) > 1_000  # the handshake
    assert len(SamplePool(state_dir / "pool")) == events[1]["pool"] + 20


def test_one_process_takes_a_newer_model_up_as_it_serves(
    own_broker: FleetBroker, state_dir: Path, trained_again: Trained
) -> None:
    """It embeds the pool in the background; then its devices have the new task, and both models are answered."""
    config = config_of(own_broker, state_dir, devices=("dev-a",))
    with (
        closing(Registry(state_dir)) as registry,
        serving(config) as events,
        Peer(own_broker, own_broker.device("dev-a")) as device,
    ):
        device.listen()
        device.hear("task")
        old, new = registry.latest(), trained_again.publish(registry)
        task = device.hear("task").message
        assert isinstance(task, Task)
        assert task.recommender == new.recommender
        for number, model in enumerate((old, new)):
            assert model is not None
            device.say(query_for(registry, model, user_samples(1), f"q{number}"), f"m{number}")
            match = device.hear("match", "refusal").message
            assert isinstance(match, Match)
            assert match.count == 50
    assert [event["event"] for event in events if event["event"] not in ("embedding", "matched")] == [
        "serving", "embedded", "taken-up", "stopped",
    ]  # fmt: skip


def test_an_unknown_device_gets_its_task_when_it_says_hello(own_broker: FleetBroker, state_dir: Path) -> None:
    """And finds it retained from then on, also after the broker has lost its disk and the cloud was restarted."""
    config = config_of(own_broker, state_dir)
    with serving(config), Peer(own_broker, own_broker.device("dev-new")) as device:
        device.listen()
        device.say(Hello("coda", "tflite", "board", ()), "hello")
        assert isinstance(device.hear().message, Task)
    with Peer(own_broker, own_broker.device("dev-new")) as device:
        device.listen()
        assert isinstance(device.hear().message, Task)
    own_broker.broker.kill()
    (own_broker.config.directory / "mosquitto.db").unlink(missing_ok=True)
    own_broker.broker.start()
    with serving(config), Peer(own_broker, own_broker.device("dev-new")) as device:
        device.listen()
        assert isinstance(device.hear().message, Task)


def test_a_new_recipe_reaches_the_devices_that_have_a_task(own_broker: FleetBroker, state_dir: Path) -> None:
    """Serving with another recipe is a new task version."""
    with serving(config_of(own_broker, state_dir, devices=("dev-a",))):
        pass
    config = config_of(own_broker, state_dir, recipe=Recipe(steps=5))
    with serving(config), Peer(own_broker, own_broker.device("dev-a")) as device:
        device.listen()
        task = device.hear("task").message
        assert isinstance(task, Task)
        assert (task.version, task.recipe["steps"]) == (2, 5)


def test_malformed_messages_are_refused_and_the_worker_lives(own_broker: FleetBroker, state_dir: Path) -> None:
    """Garbage of every sort is refused to the device that sent it, and the next good message is answered."""
    bad = [
        b"", b"\xc1", b"not msgpack", msgpack.packb([]), msgpack.packb({"v": 99, "k": "hello", "id": "x", "b": {}}),
        msgpack.packb({"v": 1, "k": "hello", "id": "x", "b": {"software": 1}}), b"\x81" * 5000,
    ]  # fmt: skip
    with serving(config_of(own_broker, state_dir)), Peer(own_broker, own_broker.device("dev-a")) as device:
        device.listen()
        for payload in bad:
            for kind in ("hello", "contribution", "nonsense"):
                device.publish(f"{topics.ROOT}/{FLEET}/dev-a/up/{kind}", payload)
                assert isinstance(device.hear().message, Refusal)
        device.publish(f"{topics.ROOT}/{FLEET}/dev-a/up/report", bytes(topics.MAX_MESSAGE_BYTES))
        refusal = device.hear().message
        assert isinstance(refusal, Refusal)
        assert refusal.code == RefusalCode.MALFORMED
        device.say(Report("round-1", 1, {}), "good")
        assert device.hear().message == Accepted("good")


def test_it_trains_and_publishes_when_nothing_is_published(own_broker: FleetBroker, tmp_path: Path) -> None:
    """From a pool alone to serving, telling what it does; the second start serves what the first published."""
    pool = SamplePool(tmp_path / "pool", SCHEMA)
    pool.add_many(Given(f"user-{user}", user_samples(user, 40), "import") for user in range(8))
    pool.close()
    config = config_of(own_broker, tmp_path, models=ModelOptions(recommender="lr", epochs=1))
    with serving(config) as events:
        assert [event["event"] for event in events[:6]] == [
            "training", "converted", "converted", "published", "embedding", "serving",
        ]  # fmt: skip
    with serving(config) as again:
        assert [event["event"] for event in again[:1]] == ["serving"]
    assert again[0]["recommender_sha256"] == events[3]["recommender_sha256"]


def test_stopping_during_training_ends_it(own_broker: FleetBroker, tmp_path: Path) -> None:
    """Told to stop, it ends after the epoch, with nothing published."""
    pool = SamplePool(tmp_path / "pool", SCHEMA)
    pool.add("ann", user_samples(1, 40), "import")
    pool.close()
    stop, events = threading.Event(), list[str]()

    def on_event(event: dict[str, Any]) -> None:
        events.append(event["event"])
        stop.set()

    CloudService(config_of(own_broker, tmp_path), on_event).run(stop)
    assert events == ["training", "stopped"]
    assert Registry(tmp_path).latest() is None


def _without_pool(config: CloudConfig) -> CloudConfig:
    return CloudConfig(**{**vars(config), "state_dir": config.state_dir / "elsewhere"})


def _with_a_key_that_is_not_there(config: CloudConfig) -> CloudConfig:
    return CloudConfig(**{**vars(config), "key_file": config.state_dir / "nothing.key"})


def _without_broker(config: CloudConfig) -> CloudConfig:
    return CloudConfig(**{**vars(config), "port": free_port()})


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_without_pool, StorageError),
        (_with_a_key_that_is_not_there, CertificateError),
        (_without_broker, ConnectionFailedError),
    ],
)
def test_what_is_missing_is_told(own_broker: FleetBroker, state_dir: Path, spoil: Any, error: type[CloudError]) -> None:
    """No pool, no key, no broker: each its own clear error."""
    with pytest.raises(error):
        CloudService(spoil(config_of(own_broker, state_dir))).run(threading.Event())


GOOD = """
fleet = "test"
host = "localhost"
port = 8883
ca_file = "ca.crt"
cert_file = "/etc/cloud.crt"
key_file = "cloud.key"
state_dir = "state"
devices = ["dev-a"]
models.epochs = 3
models.learning_rate = 1
[recipe]
steps = 5
"""


def test_a_configuration_is_read(tmp_path: Path) -> None:
    """Paths are relative to the file; what is not given has its default."""
    (tmp_path / "cloud.toml").write_text(GOOD)
    config = load_config(tmp_path / "cloud.toml")
    assert (config.ca_file, config.cert_file) == (tmp_path / "ca.crt", Path("/etc/cloud.crt"))
    assert (config.devices, config.worker, config.recipe) == (("dev-a",), "cloud", Recipe(steps=5))
    assert config.models == ModelOptions(epochs=3, learning_rate=1.0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("port = 8883", "port = 0"), "port 0"),
        (("port = 8883", 'port = "8883"'), "port must be int"),
        (("port = 8883", ""), "port"),
        (("port = 8883", "port = 8883\ntypo = 1"), r"unknown values \['typo'\]"),
        (('"test"', '"a/b"'), "fleet 'a/b'"),
        (('["dev-a"]', '"dev-a"'), "devices must be a list of texts"),
        (("steps = 5", "steps = 0"), "steps must be at least 1"),
        (("steps = 5", "stops = 5"), "stops"),
        (("models.epochs = 3", "models.epochs = 0"), "epochs must be at least 1"),
        (("models.epochs = 3", "models.epoch = 3"), r"unknown values \['epoch'\]"),
        (("models.epochs = 3\nmodels.learning_rate = 1", "models = 1"), "models must be a table"),
        (('"state"', "["), "not TOML"),
    ],
)
def test_a_wrong_configuration_is_explained(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    """What is wrong, by name."""
    (tmp_path / "cloud.toml").write_text(GOOD.replace(*change))
    with pytest.raises(ConfigError, match=complaint):
        load_config(tmp_path / "cloud.toml")


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    """The path stands in the error."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load_config(tmp_path / "nowhere.toml")
