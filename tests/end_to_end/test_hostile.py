"""Hostile messages to a real device process: refused, told, and its round goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from protocol import topics
from protocol.recipe import Recipe
from tests.broker_fixtures import FLEET, FleetBroker, Peer
from tests.edge.samples import samples
from tests.end_to_end.conftest import Device

pytestmark = pytest.mark.broker

RECIPE = Recipe(steps=100, learning_rate=0.2, classifier_steps=50, match_samples=200)


def _packed(kind: str, body: Any, **changes: Any) -> bytes:
    packed: bytes = msgpack.packb({"v": topics.SCHEMA_VERSION, "k": kind, "id": "m", "b": body, **changes})
    return packed


HOSTILE = [
    ("task", b""),
    ("task", b"\xc1" * 1000),
    ("task", b"\x81\xa1v" + b"\x91" * 300_000),
    ("task", _packed("task", {}, v=999)),
    ("task", _packed("task", {"version": "1", "features": [], "recipe": 7, "recommender": {}, "classifier": None})),
    ("match", _packed("match", {"query_id": "q", "count": -1, "samples": None, "rows": None})),
    ("chunk", _packed("chunk", {"blob": "../../x", "index": 0, "crc32": 0, "data": b""})),
    ("chunk", _packed("chunk", {"blob": "0" * 64, "index": 1 << 60, "crc32": "x", "data": bytes(200_000)})),
    ("release", _packed("release", {"offer": 1, "target": "../../x", "metadata": None})),
    ("release", _packed("release", {"offer": 1, "target": "x", "metadata": {"sha256": "../x", "size_bytes": 1}})),
    ("accepted", _packed("refusal", {})),
    ("no-such-kind", _packed("no-such-kind", {})),
]


def test_a_device_refuses_what_makes_no_sense_and_goes_on(
    fleet_broker: FleetBroker, cloud: Any, device: Callable[..., Device]
) -> None:
    """Malformed, nested, mistyped messages from the cloud's own topics: each is told, and the round is done."""
    one = device("hostile-1")
    one.add(samples(60))
    with Peer(fleet_broker, fleet_broker.device("hostile-1"), persistent=True) as before:
        before.listen()  # so that the broker keeps what is said until the device itself is there
    with cloud(RECIPE), Peer(fleet_broker, fleet_broker.cloud("cloud-2")) as liar:
        for kind, payload in HOSTILE:
            topic = f"{topics.ROOT}/{FLEET}/hostile-1/down/{kind}"
            assert not liar.publish(topic, payload).is_failure
        events = one.run().finish()
    refused = [event for event in events if event["event"] == "message-refused"]
    assert [event["kind"] for event in refused] == [kind for kind, _ in HOSTILE]
    assert any(event["event"] == "round" for event in events)
