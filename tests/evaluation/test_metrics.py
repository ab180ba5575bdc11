"""Metrics, statistics and baselines against values that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.baselines import ItemMean, Popularity, UserKnn
from evaluation.metrics import auc, expected_calibration_error, gauc, log_loss, mean_defined, ndcg, sigmoid, user_aucs
from evaluation.statistics import bootstrap_mean, count_signs, paired_difference
from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_auc_equals_the_count_over_all_pairs(rows: list[tuple[bool, int]]) -> None:
    """A positive above a negative counts 1, a tie half; one class alone has no AUC."""
    label, score = (np.array(column, float) for column in zip(*rows, strict=True))
    pairs = [(p > n) + 0.5 * (p == n) for p in score[label == 1] for n in score[label == 0]]
    got = auc(label, score)
    assert got is None if not pairs else got == pytest.approx(np.mean(pairs))


def test_users_of_one_class_are_left_out_of_means() -> None:
    """Mean user AUC and GAUC are over the users who have both classes."""
    labels = [np.array([1.0, 0.0]), np.array([1.0, 1.0]), np.array([0.0, 1.0, 0.0])]
    scores = [np.array([2.0, 1.0]), np.array([1.0, 2.0]), np.array([3.0, 2.0, 1.0])]
    aucs = user_aucs(labels, scores)
    assert aucs == [1.0, None, 0.5]
    assert mean_defined(aucs) == 0.75
    assert gauc(aucs, [2, 2, 3]) == pytest.approx((2 * 1.0 + 3 * 0.5) / 5)
    assert mean_defined([None]) is None
    assert gauc([None], [3]) is None


def test_log_loss_is_exact_and_does_not_overflow() -> None:
    """Ln 2 at logit 0; a logit of 1000 on the wrong side costs 1000."""
    assert log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(math.log(2))
    assert log_loss(np.array([0.0]), np.array([1000.0])) == pytest.approx(1000.0)
    assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]
    assert log_loss(np.array([]), np.array([])) is None


def test_calibration_error_is_the_weighted_gap() -> None:
    """Ten forecasts of 0.25 with 5 hits, ten of 0.75 with 10 hits: both bins are off by 0.25."""
    probability = np.repeat([0.25, 0.75], 10)
    label = np.concatenate([np.repeat([1.0, 0.0], 5), np.ones(10)])
    assert expected_calibration_error(label, probability) == pytest.approx(0.25)


def test_ndcg_discounts_by_rank_and_shares_ties() -> None:
    """One positive in second place; then all scores tied."""
    assert ndcg(np.array([0.0, 1.0]), np.array([2.0, 1.0])) == pytest.approx(1 / math.log2(3))
    assert ndcg(np.array([0.0, 1.0]), np.array([1.0, 1.0])) == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert ndcg(np.array([0.0]), np.array([1.0])) is None
    assert ndcg(np.array([0.0] * 10 + [1.0]), -np.arange(11.0)) == 0.0


def test_a_bootstrap_interval_is_seeded_and_holds_the_mean() -> None:
    """Its half width is about 1.96 standard errors."""
    values = np.random.default_rng(0).normal(0.3, 1.0, 400).tolist()
    interval = bootstrap_mean([*values, None], seed=5)
    assert interval is not None
    assert interval == bootstrap_mean(values, seed=5)
    assert interval.low < interval.mean < interval.high
    assert interval.users == 400
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * np.std(values) / 20, rel=0.1)
    assert bootstrap_mean([None]) is None


def test_paired_differences_use_users_with_both_values() -> None:
    """A constant difference has an interval of no width, however much users differ among themselves."""
    ours, theirs = [0.9, 0.5, None, 0.7], [0.8, 0.4, 0.3, None]
    gap = paired_difference(ours, theirs)
    assert gap is not None
    assert gap.users == 2
    assert (gap.low, gap.high) == pytest.approx((0.1, 0.1))
    signs = count_signs([0.9, 0.5, 0.4, None], [0.8, 0.5, 0.6, 0.1])
    assert (signs.up, signs.same, signs.down) == (1, 1, 1)


def _batch(item: list[int], label: list[int]) -> SampleBatch:
    schema = FeatureSchema((Feature("item", FeatureKind.CATEGORICAL, 1, 5, "item"),))
    return SampleBatch(
        schema, {"item": np.array(item, np.int32)}, np.array(label, np.float32), np.zeros(len(item), np.int64)
    )


def test_item_mean_is_drawn_toward_the_overall_mean() -> None:
    """Item 1 has labels 1 and 1, item 2 has 0 and 0: with one sample of smoothing 2.5/3 and 0.5/3."""
    scorer = ItemMean.fit(_batch([1, 1, 2, 2], [1, 1, 0, 0]), smoothing=1.0)
    assert scorer.score(np.array([1, 2, 3])) == pytest.approx([2.5 / 3, 0.5 / 3, 0.5])


def test_popularity_counts_positives() -> None:
    """Negatives do not count."""
    assert Popularity.fit(_batch([1, 1, 2], [1, 1, 0])).score(np.array([1, 2])).tolist() == [2.0, 0.0]


def test_user_knn_votes_for_what_similar_users_liked() -> None:
    """A user who likes 1 is like the first pool user, who also likes 2, and not like the second, who likes 3 and 4."""
    scorer = UserKnn.fit(_batch([1, 2, 3, 4], [1, 1, 1, 1]), np.array([7, 7, 9, 9]), neighbours=1)
    votes = scorer.score(np.array([1]), np.array([2, 3, 4]))
    assert votes[0] == pytest.approx(1 / math.sqrt(2))
    assert votes[1:].tolist() == [0.0, 0.0]
