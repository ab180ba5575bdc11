"""A member of the fleet that means harm, against the real cloud service over a real Mosquitto."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.storage.ledger import Ledger
from protocol import envelope, topics
from protocol.batch_codec import encode_batch, encode_plain
from protocol.messages import Accepted, Contribution, Hello, Query, Refusal, Report, Task
from protocol.topics import MAX_MESSAGE_BYTES
from tests.broker_fixtures import FLEET, FleetBroker, Peer
from tests.cloud_broker.samples import ITEMS, user_samples
from tests.cloud_broker.test_service import config_of, serving
from tests.security.bombs import BOMBS, bombed, little_memory

pytestmark = pytest.mark.broker

_SHA = "0" * 64


def _envelope(kind: str, body: Any, **changes: Any) -> bytes:
    values = {"v": topics.SCHEMA_VERSION, "k": kind, "id": "m", "b": body, **changes}
    packed: bytes = msgpack.packb(values, use_bin_type=True)
    return packed


def _gift(samples: bytes) -> bytes:
    return envelope.encode(Contribution(samples), "m", limit_bytes=2 * MAX_MESSAGE_BYTES)


def _hostile() -> Iterator[tuple[str, bytes, str]]:
    """What to call it, on which topic it is said, and how."""
    deep: Any = "end"
    for _ in range(500):
        deep = [deep]
    batch = user_samples(1)
    wide = encode_plain(batch).replace(batch.schema.digest.encode(), b"x" * len(batch.schema.digest))
    for which in BOMBS:
        yield "contribution", _gift(bombed(user_samples(1, 500), which, compact=False)), "malformed oversize"
        yield "contribution", _gift(bombed(user_samples(1, 500), which, compact=True)), "malformed oversize"
    foreign, minus, infinite = (user_samples(1) for _ in range(3))
    foreign.features["item"][0] = ITEMS
    minus.features["liked"][0, 0] = -1
    infinite.label[0] = np.inf
    for spoilt in (foreign, minus, infinite):
        yield "contribution", _gift(encode_plain(spoilt)), "malformed"
    plain = encode_plain(batch)
    yield "contribution", _gift(wide), "schema"
    yield "contribution", _gift(plain[:-7]), "malformed"
    yield "contribution", _gift(plain + b"more"), "malformed"
    yield "contribution", _gift(struct.pack("<4sI", b"CSB1", 1 << 31)), "malformed"
    yield "contribution", _envelope("contribution", {"samples": "text"}), "malformed"
    yield "contribution", _envelope("contribution", {"samples": [1, 2]}), "malformed"
    yield "report", _envelope("report", {"round_id": "r", "task_version": 1, "record": {"a": deep}}), "malformed"
    yield "report", b"\x81\xa1v" + b"\x91" * 300_000, "malformed"
    yield "hello", _envelope("hello", {"software": 1, "runtime": None, "board": [], "models": "x"}), "malformed"
    yield "hello", _envelope("hello", {}, v=999), "schema"
    yield "hello", _envelope("pull", {"blob": _SHA, "chunks": [0]}), "malformed"
    yield "pull", _envelope("pull", {"blob": "../../ca.key", "chunks": [0]}), "malformed"
    yield "pull", _envelope("pull", {"blob": _SHA, "chunks": [-1, 1 << 40]}), "malformed"
    yield "query", _envelope("query", _query(centroids=b"\x00\x7e" * 4)), "malformed"
    yield "query", _envelope("query", _query(dimensions=1 << 40)), "malformed"
    yield "query", _envelope("query", _query(weights=[float("nan")])), "malformed"
    yield "query", _envelope("query", _query(model_sha256=_SHA)), "unknown-model"
    yield "updated", _envelope("updated", {"offer": "1", "target": "x"}), "malformed"
    yield "updated", _envelope("updated", _updated(reason="x" * 3000)), "oversize"
    yield "presence", b"", "malformed"
    yield "presence", b"\xc1" * 100, "malformed"
    yield "no-such-kind", _envelope("no-such-kind", {}), "malformed"


def _updated(**changes: Any) -> dict[str, Any]:
    return {"offer": 1, "target": "x", "outcome": "failed", "reason": "", "running": "1", **changes}


def _query(**changes: Any) -> dict[str, Any]:
    good = vars(Query("q", 1, _SHA, 4, bytes(8), (1.0,), 10, 1 << 16))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in {**good, **changes}.items()}


def test_the_service_refuses_logs_and_lives(
    own_broker: FleetBroker, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bombs, deep nesting, wrong types, shapes and kinds: each is refused and logged, and the next device is served."""
    hostile = list(_hostile())
    with serving(config_of(own_broker, state_dir)) as events, Peer(own_broker, own_broker.device("bad")) as bad:
        bad.listen()
        before = len(SamplePool(state_dir / "pool"))
        with little_memory(128 << 20), caplog.at_level(logging.WARNING):
            for number, (kind, payload, codes) in enumerate(hostile):
                topic = str(topics.Topic(FLEET, "bad", "up", kind))
                assert not bad.publish(topic, payload).is_failure
                answer = bad.hear("refusal").message
                assert isinstance(answer, Refusal)
                assert answer.code in codes.split(), f"{number}: {kind}: {answer}"
                assert "/" not in answer.detail or "cloud_broker" not in answer.detail
        refused = [event for event in events if event["event"] == "refused"]
        assert len(refused) == len(hostile)
        assert {event["device"] for event in refused} == {"bad"}
        assert sum("refused" in line for line in caplog.messages) >= len(hostile)
        with Peer(own_broker, own_broker.device("good")) as good:
            good.listen()
            good.say(Hello("1", "r", "b", ()), "hello")
            assert isinstance(good.hear("task").message, Task)
        assert len(SamplePool(state_dir / "pool")) == before


def test_a_replayed_message_has_its_effect_once(own_broker: FleetBroker, state_dir: Path) -> None:
    """The same bytes again, also after the service was restarted, add no sample and no report."""
    gift = envelope.encode(Contribution(encode_batch(user_samples(99))), "gift")
    report = envelope.encode(Report("round-1", 1, {"gate": "kept"}), "report")
    before = len(SamplePool(state_dir / "pool"))
    for _ in range(2):
        with serving(config_of(own_broker, state_dir)), Peer(own_broker, own_broker.device("dev-a")) as device:
            device.listen()
            for kind, payload in [("contribution", gift), ("report", report)] * 3:
                device.publish(topics.up(FLEET, "dev-a", kind), payload)
                assert isinstance(device.hear("accepted").message, Accepted)
    assert len(SamplePool(state_dir / "pool")) == before + 20
    assert Ledger(state_dir).reports() == [("dev-a", {"gate": "kept"})]


def test_a_forged_message_does_not_reach_the_service(own_broker: FleetBroker, state_dir: Path) -> None:
    """What a device says in another's name, or to the cloud as the cloud, is stopped at the broker."""
    before = len(SamplePool(state_dir / "pool"))
    gift = Contribution(encode_batch(user_samples(99)))
    with serving(config_of(own_broker, state_dir)) as events, Peer(own_broker, own_broker.device("bad")) as bad:
        assert bad.say(gift, "forged", device="good").getName() == "Not authorized"
        with Peer(own_broker, own_broker.device("good")) as good:
            good.listen()
            good.say(Hello("1", "r", "b", ()), "hello")
            good.hear("task")
        assert not [event for event in events if event["event"] == "contributed"]
    assert len(SamplePool(state_dir / "pool")) == before


def test_an_oversize_message_ends_the_connection(own_broker: FleetBroker, state_dir: Path) -> None:
    """The broker takes no packet beyond its bound, and the service does not see it."""
    with serving(config_of(own_broker, state_dir)) as events, Peer(own_broker, own_broker.device("bad")) as bad:
        bad._client.publish(topics.up(FLEET, "bad", "report"), bytes(2 * MAX_MESSAGE_BYTES), qos=1)
        with Peer(own_broker, own_broker.device("good")) as good:
            good.listen()
            good.say(Hello("1", "r", "b", ()), "hello")
            good.hear("task")
        assert not [event for event in events if event["event"] == "refused"]
