"""What each step of a question costs a worker, one after the other on one thread, without a network."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cloud_broker.matching.byte_budget import encode_within
from cloud_broker.matching.versions import Versions
from cloud_broker.models.registry import Registry
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.workers.answer_store import AnswerStore
from cloud_broker.workers.answering import Answering
from coda.simulation.profiles import published_profiles
from protocol import mqtt_codec, topics
from protocol.envelope import decode, encode
from protocol.messages import Match, Query
from protocol.topics import MAX_BLOB_BYTES

_QUESTIONS = 200
_CENTROIDS = 8


def steps(filled: Path, samples: int) -> dict[str, float]:
    """Processor time in ms of each step, by what it does; the mean over 200 questions.

    Args:
        filled: What `benchmarks.load.cloud.fill` filled.
        samples: Matched samples that each asks for.
    """
    profiles, rng = published_profiles(filled, 1), np.random.default_rng(1)
    queries = [
        profiles.query(f"q{n}", rng, centroids=_CENTROIDS, samples=samples, max_bytes=MAX_BLOB_BYTES)
        for n in range(_QUESTIONS)
    ]
    said = [encode(query, query.query_id) for query in queries]
    with closing(SamplePool(filled / "pool")) as pool, closing(Registry(filled)) as registry:
        versions = Versions(pool, registry)
        answers = AnswerStore(filled)
        quick = Answering(versions, answers, lambda _event: None, hurried=lambda: True)
        ranked = [versions.rank(query, "sim") for query in queries]
        matches = [quick.match(query, "sim") for query in queries]
        heard = [_packet(match) for match in matches]
        # As a worker does before it serves: else looking for garbage takes as long as what is measured.
        gc.collect()
        gc.freeze()

        def pack(number: int, *, hurried: bool) -> Any:
            return encode_within(pool.take, ranked[number], MAX_BLOB_BYTES, quick=hurried)

        def put(number: int) -> Any:
            return answers.put(matches[number].data or b"-", f"device-{number}")

        found = {
            "reading the query": _ms(lambda number: decode("up", Query.kind, said[number])),
            "choosing samples": _ms(lambda number: versions.rank(queries[number], "sim")),
            "packing them, fewest bytes": _ms(partial(pack, hurried=False)),
            "packing them in a hurry": _ms(partial(pack, hurried=True)),
            "all of an answer, in a hurry": _ms(lambda number: quick.match(queries[number], "sim")),
            "keeping it for a device that pulls": _ms(put),
            "writing answer and packet": _ms(lambda number: _packet(matches[number])),
            "reading packet and answer": _ms(
                lambda number: decode("down", Match.kind, mqtt_codec.Reader().feed(heard[number])[0].payload)
            ),
        }
        versions.close()
        return found


def _packet(match: Match) -> bytes:
    return mqtt_codec.publish(topics.down("load", "sim", Match.kind), encode(match, match.query_id))


def _ms(do: Callable[[int], Any]) -> float:
    for number in range(_QUESTIONS // 10):
        do(number)
    begun_s = time.process_time()
    for number in range(_QUESTIONS):
        do(number)
    return 1e3 * (time.process_time() - begun_s) / _QUESTIONS
