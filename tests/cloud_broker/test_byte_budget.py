"""Choosing what to send where not everything fits."""

from __future__ import annotations

import numpy as np

from cloud_broker.matching.byte_budget import affordable, encode_within
from protocol.batch_codec import encode_batch
from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema

LENGTH, VOCABULARY = 20, 5000
SCHEMA = FeatureSchema((Feature("seen", FeatureKind.SEQUENCE, LENGTH, VOCABULARY, "item"),))


def _candidates() -> SampleBatch:
    """The even rows are one user's sliding windows, the odd ones a stranger's each."""
    rng = np.random.default_rng(3)
    seen = rng.integers(1, VOCABULARY, (400, LENGTH)).astype(np.int32)
    items = rng.integers(1, VOCABULARY, 200 + LENGTH - 1).astype(np.int32)
    seen[::2] = np.lib.stride_tricks.sliding_window_view(items, LENGTH)
    return SampleBatch(SCHEMA, {"seen": seen}, np.ones(400, np.float32), np.arange(400, dtype=np.int64))


def test_of_samples_about_as_near_those_that_share_come_first() -> None:
    """Windows of one user are taken from further down than strangers are, but not from the ranking's end."""
    candidates = _candidates()
    everything = len(encode_batch(candidates))
    order = affordable(candidates, everything, everything // 4)
    shared, strangers = order[order % 2 == 0], order[order % 2 == 1]
    assert len(shared) > len(strangers)
    assert strangers.max() + 20 < shared.max() < 200


def test_without_a_preference_the_ranking_is_cut() -> None:
    """The first that fit, in their order."""
    candidates = _candidates()
    order = affordable(candidates, len(encode_batch(candidates)), 3000, preference=0)
    assert order.tolist() == list(range(len(order)))


def test_more_samples_fit_the_same_bytes() -> None:
    """What it is for; and the bytes are kept, whatever the estimate said."""
    candidates, max_bytes = _candidates(), 3000
    rows, payload = encode_within(candidates.take, np.arange(400), max_bytes)
    assert len(payload) <= max_bytes
    first = np.arange(len(rows))
    assert len(encode_batch(candidates.take(first), keep_order=False)) > max_bytes


def test_what_fits_is_sent_as_it_was_ranked() -> None:
    """Nothing is dropped that there is room for."""
    rows, _ = encode_within(_candidates().take, np.arange(400), 1 << 20)
    assert len(rows) == 400


def test_what_has_room_for_a_few_samples_has_a_few() -> None:
    """Whatever the estimate says of so few: none are sent only if not even one fits."""
    candidates, rows = _candidates(), np.arange(400)
    one = max(len(encode_batch(candidates.take(rows[row : row + 1]))) for row in rows)
    for max_bytes in range(one, 4 * one, 40):
        chosen, payload = encode_within(candidates.take, rows, max_bytes)
        assert len(chosen) >= 1
        assert len(payload) <= max_bytes
    chosen, payload = encode_within(candidates.take, rows, 40)
    assert (len(chosen), payload) == (0, b"")
