"""Simulated devices: their packets, what they make of answers, and a crowd of them against a real cloud."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coda.simulation.crowd import Found
from coda.simulation.device import SimulatedDevice
from coda.simulation.figures import figures, rows
from coda.simulation.herd import Wave
from coda.simulation.questions import Question, Questions
from protocol import mqtt_codec, topics
from protocol.batch_codec import encode_batch
from protocol.envelope import decode, encode
from protocol.messages import BlobRef, Busy, Chunk, Match, Message, Pull, Query, Refusal
from protocol.mqtt_codec import Reader
from protocol.topics import MAX_CHUNK_BYTES
from tests.broker_fixtures import FLEET, FleetBroker
from tests.cloud_broker.conftest import published_state, state_dir  # noqa: F401 - fixtures
from tests.cloud_broker.samples import SCHEMA, user_samples
from tests.cloud_broker.test_service import config_of, serving
from tests.coda.running import coda

SHA = "ab" * 32
QUERY = Query("q1", 1, SHA, 2, np.ones(2, "<f2").tobytes(), (1.0,), 10, 1 << 16)
SAMPLES = encode_batch(user_samples(1, 20))


class Cloud:
    """Plays broker and cloud to one simulated device, without a network."""

    def __init__(self) -> None:
        self.device = SimulatedDevice(FLEET, "sim-1", SCHEMA, decode_samples=True)
        self.device.greet()
        self.said: list[tuple[str, Message, str]] = []
        self._reader = Reader()
        self.listen()

    def listen(self) -> Sequence[str]:
        """The kinds of what the device said since."""
        new = []
        for packet in self._reader.feed(bytes(self.device.out)):
            if packet.kind == mqtt_codec.PUBLISH:
                kind = topics.parse(packet.topic).kind
                envelope = decode("up", kind, packet.payload)
                self.said.append((kind, envelope.message, envelope.message_id))
                new.append(kind)
        self.device.out.clear()
        return new

    def say(self, message: Message, now_s: float = 1.0):  # type: ignore[no-untyped-def]
        """Say something to it; what became of its question then."""
        topic = topics.down(FLEET, "sim-1", message.kind)
        return self.device.hear(mqtt_codec.publish(topic, encode(message, "m"), 7), now_s, lambda: 0.5)


def chunks_of(data: bytes) -> list[Chunk]:
    """As the cloud cuts a blob."""
    sha256 = hashlib.sha256(data).hexdigest()
    pieces = [data[at : at + MAX_CHUNK_BYTES] for at in range(0, len(data), MAX_CHUNK_BYTES)]
    return [Chunk(sha256, n, zlib.crc32(one), one, MAX_CHUNK_BYTES) for n, one in enumerate(pieces)]


def test_a_question_ends_with_its_samples() -> None:
    """Query, match, pull, chunks: the outcome tells how many samples came, and they were decoded."""
    cloud = Cloud()
    assert [kind for kind, _, _ in cloud.said] == ["presence", "hello"]
    cloud.device.ask(Question.of(QUERY), 0.0)
    assert cloud.listen() == ["query"]
    ref = BlobRef(hashlib.sha256(SAMPLES).hexdigest(), len(SAMPLES))
    assert cloud.say(Match("another", 20, ref)) is None
    assert cloud.say(Match("q1", 20, ref)) is None
    assert cloud.listen() == ["pull"]
    assert cloud.said[-1][1] == Pull(ref.sha256, (0,), MAX_CHUNK_BYTES)
    (chunk,) = chunks_of(SAMPLES)
    outcome = cloud.say(chunk)
    assert (outcome.samples, outcome.size_bytes, outcome.fault) == (20, len(SAMPLES), "")
    assert cloud.device.asking is None


@pytest.mark.parametrize("sent", [SAMPLES, SAMPLES[:-1] + b"x"])
def test_a_question_may_end_with_its_answer(sent: bytes) -> None:
    """Samples in the answer are checked as those that are pulled are, and nothing is pulled."""
    cloud = Cloud()
    cloud.device.ask(Question.of(QUERY), 0.0)
    cloud.listen()
    ref = BlobRef(hashlib.sha256(SAMPLES).hexdigest(), len(SAMPLES))
    outcome = cloud.say(Match("q1", 20, ref, None, sent))
    assert (outcome.fault == "", "another digest" in outcome.fault) == (sent == SAMPLES, sent != SAMPLES)
    assert cloud.listen() == []


def test_questions_are_encoded_once_and_asked_under_any_id() -> None:
    """Each is the message that its query would be, under its id, by one profile after the other."""
    questions = Questions(lambda query_id: replace(QUERY, query_id=query_id), profiles=2)
    for query_id in ("sim-1-q1", "sim-1-q2", "another-length"):
        assert questions.ask(query_id) == Question.of(replace(QUERY, query_id=query_id))


@pytest.mark.parametrize(
    ("count", "sent", "fault"),
    [(20, SAMPLES[:-1] + b"x", "another digest"), (19, SAMPLES, "another number of samples")],
)
def test_a_damaged_answer_is_noticed(count: int, sent: bytes, fault: str) -> None:
    """An answer counts only when it is what it says it is."""
    cloud = Cloud()
    cloud.device.ask(Question.of(QUERY), 0.0)
    sha256 = hashlib.sha256(SAMPLES).hexdigest()
    cloud.say(Match("q1", count, BlobRef(sha256, len(SAMPLES))))
    outcome = cloud.say(Chunk(sha256, 0, zlib.crc32(sent), sent, MAX_CHUNK_BYTES))
    assert fault in outcome.fault


def test_one_that_is_put_off_asks_the_same_again() -> None:
    """After the time that it was told and half as long by chance; a refusal ends the question instead."""
    cloud = Cloud()
    cloud.device.ask(Question.of(QUERY), 0.0)
    cloud.say(Busy("another", 9.0))
    assert cloud.say(Busy("q1", 2.0), now_s=10.0) is None
    asking = cloud.device.asking
    assert asking is not None
    assert (asking.again_s, asking.refused) == (12.5, 1)
    cloud.listen()
    cloud.device.ask_again()
    assert cloud.listen() == ["query"]
    assert cloud.said[-1][1] == QUERY
    outcome = cloud.say(Refusal("q1", "internal", "failed"))
    assert (outcome.fault, outcome.refused) == ("refused: internal", 1)


def test_figures_tell_none_where_nothing_was_measured() -> None:
    """No answer, no percentile; times after being put off stand apart."""
    empty = figures(Found(asked=3, lost=3), Wave(10, 2))
    assert (empty["p99_ms"], empty["bytes_each"], empty["lost"]) == (None, None, 3)
    found = figures(
        Found(asked=3, at_once_s=[0.1, 0.3], after_put_off_s=[2.0], samples=30, size_bytes=90, while_asking=2),
        Wave(10, 2),
    )
    assert (found["p50_ms"], found["after_put_off_p50_s"], found["bytes_each"]) == (200.0, 2.0, 30.0)
    assert (found["answered_per_s"], found["while_asking_per_s"]) == (1.5, 1.0)
    assert ("p99 ms", "-") in rows(empty)


def test_what_processes_found_is_counted_together() -> None:
    """Figures pass as JSON from one process to another, faults by name, and add up."""
    found = Found(asked=2, at_once_s=[0.5], faults=Counter({"refused: internal": 1}))
    again = Found.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    both = again + found
    assert (both.asked, both.at_once_s, both.faults["refused: internal"]) == (4, [0.5, 0.5], 2)


@pytest.mark.broker
@pytest.mark.slow
def test_a_crowd_asks_a_real_cloud(own_broker: FleetBroker, state_dir: Path) -> None:  # noqa: F811
    """Every question of 20 devices in two processes is answered, with samples that are whole."""
    config = config_of(own_broker, state_dir)
    path = state_dir.parent / "cloud.toml"
    files = {name: str(getattr(config, name)) for name in ("ca_file", "cert_file", "key_file", "state_dir")}
    values = {"fleet": FLEET, "host": config.host, "port": config.port, **files}
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    with serving(config):
        done = coda(
            "simulate", "--config", str(path), "--fleet-dir", str(own_broker.config.directory), "--devices", "20",
            "--rate", "20", "--seconds", "1", "--samples", "30", "--json",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["asked"] > 0
    assert found["answered_at_once"] + found["answered_after_put_off"] == found["asked"]
    assert (found["lost"], found["failed"], found["samples_each"]) == (0, {}, 30.0)
