"""Keep weights and the hold-out, which need no model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.learning.classifier import Classification, keep_weights, trust
from edge.learning.gate import split_holdout
from protocol.recipe import Recipe
from tests.edge.samples import samples


def test_soft_weights_are_odds_up_to_the_clip() -> None:
    """G / (1 - g): even odds weigh 1, certainty weighs the clip."""
    theirs = np.array([0.5, 0.2, 0.75, 1.0], np.float32)
    weights = keep_weights(np.array([0.5], np.float32), theirs, Recipe(keep_weight_clip=3.0))
    assert weights == pytest.approx([1.0, 0.25, 3.0, 3.0])


def test_the_hard_threshold_is_the_devices_own() -> None:
    """A device whose own samples score low keeps samples that another would not."""
    theirs = np.array([0.2, 0.4, 0.6], np.float32)
    hard = Recipe(keep_rule="hard")
    low, high = np.full(8, 0.3, np.float32), np.full(8, 0.5, np.float32)
    assert keep_weights(low, theirs, hard).tolist() == [0, 1, 1]
    assert keep_weights(high, theirs, hard).tolist() == [0, 0, 1]


def test_a_classifier_that_learnt_nothing_has_no_say() -> None:
    """At a held-out AUC of one half, or none, all weigh alike; at three quarters it is taken at its word."""
    theirs = np.array([0.2, 0.5, 0.7], np.float32)
    own = np.array([0.5], np.float32)
    assert [trust(auc) for auc in (None, 0.3, 0.5, 0.625, 0.75, 0.9)] == [0, 0, 0, 0.5, 1, 1]
    assert keep_weights(own, theirs, Recipe(), trust(0.5)).tolist() == [1, 1, 1]
    assert keep_weights(own, theirs, Recipe(), 0.5) == pytest.approx([0.5, 1, np.sqrt(7 / 3)])


@pytest.mark.parametrize(
    ("weights", "kept"), [([1, 1, 1, 0], 3), ([0, 0], 0), ([2, 2], 2), ([3, 0.01, 0.01], 1), ([], 0)]
)
def test_kept_is_the_effective_number(weights: list[float], kept: int) -> None:
    """Equal weights count fully, negligible ones do not."""
    array = np.array(weights, np.float32)
    assert Classification(array, array, None).samples_kept == kept


@settings(deadline=None)
@given(count=st.integers(0, 60), share=st.floats(0.05, 0.95), seed=st.integers(0, 20))
def test_the_hold_out_is_the_latest_of_each_label(count: int, share: float, seed: int) -> None:
    """Nothing is lost or doubled, no label leaves the training part, and held-out samples are later of their label."""
    local = samples(count, seed=seed).take(np.random.default_rng(seed).permutation(count))
    training, holdout = split_holdout(local, share)
    assert sorted([*training.time_s, *holdout.time_s]) == sorted(local.time_s)
    assert set(training.label) == set(local.label)
    for label in set(holdout.label):
        assert training.time_s[training.label == label].max() < holdout.time_s[holdout.label == label].min()
    assert (np.diff(training.time_s) > 0).all()
