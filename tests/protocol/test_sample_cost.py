"""What a sample is estimated to add to a batch."""

from __future__ import annotations

import numpy as np
import pytest

from protocol.batch_codec import encode_batch
from protocol.sample_cost import SampleCosts
from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema

LENGTH, VOCABULARY = 20, 5000
SCHEMA = FeatureSchema(
    (
        Feature("item", FeatureKind.CATEGORICAL, 1, VOCABULARY, "item"),
        Feature("seen", FeatureKind.SEQUENCE, LENGTH, VOCABULARY, "item"),
    )
)


def _users(users: int, events: int) -> SampleBatch:
    rng = np.random.default_rng(4)
    seen, item = [], []
    for _ in range(users):
        items = rng.integers(1, VOCABULARY, events + LENGTH).astype(np.int32)
        seen.append(np.lib.stride_tricks.sliding_window_view(items, LENGTH)[:events])
        item.append(rng.integers(1, VOCABULARY, events).astype(np.int32))
    n = users * events
    features = {"item": np.concatenate(item), "seen": np.concatenate(seen)}
    time_s = np.cumsum(rng.integers(0, 1_000_000, n))
    return SampleBatch(SCHEMA, features, np.ones(n, np.float32), time_s)


def _chosen(n: int, *rows: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    chosen = np.zeros(n, np.bool_)
    chosen[list(rows)] = True
    return chosen


def test_a_neighbour_in_a_paid_sequence_is_cheap() -> None:
    """With row 50 chosen the next window costs one id, one ten away ten, and another user's all twenty."""
    costs = SampleCosts(_users(2, 100))
    alone, beside = costs.marginal_bytes(_chosen(200)), costs.marginal_bytes(_chosen(200, 50))
    fixed = beside[50]
    per_id = (alone[51] - fixed) / LENGTH
    for row, ids in ((51, 1), (49, 1), (60, 10), (40, 10), (75, 20), (150, 20)):
        assert beside[row] == pytest.approx(fixed + ids * per_id), row


def test_a_window_between_two_chosen_ones_costs_the_gap() -> None:
    """What both neighbours brought is not paid again."""
    costs = SampleCosts(_users(1, 100))
    fixed, alone = costs.marginal_bytes(_chosen(100, 50))[50], costs.marginal_bytes(_chosen(100))[50]
    between = costs.marginal_bytes(_chosen(100, 40, 66))[50]
    assert between == pytest.approx(fixed + 6 * (alone - fixed) / LENGTH)


def test_marginal_costs_add_up_to_the_total() -> None:
    """Chosen one after another, in any order, samples cost what the batch is estimated at."""
    costs, chosen, paid = SampleCosts(_users(3, 40)), _chosen(120), 0.0
    base = costs.total_bytes(chosen)
    for row in np.random.default_rng(1).permutation(120).tolist():
        paid += costs.marginal_bytes(chosen)[row]
        chosen[row] = True
        assert costs.total_bytes(chosen) == pytest.approx(base + paid)


@pytest.mark.parametrize(("users", "events"), [(20, 50), (1000, 1)])
def test_the_estimate_is_near_the_truth(users: int, events: int) -> None:
    """Within a quarter, whether histories are shared or not; they differ tenfold."""
    batch = _users(users, events)
    estimate = SampleCosts(batch).total_bytes(np.ones(len(batch), np.bool_))
    assert estimate == pytest.approx(len(encode_batch(batch, keep_order=False)), rel=0.25)
