"""The gate hears the fleet: what other devices gained decides where a hold-out cannot."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from edge.learning.gate import Decision, gate, hear_fleet
from edge.learning.metrics import log_losses, ranking_losses
from edge.learning.trainer import Trainer
from edge.learning.tuning import tune
from protocol.fleet_gain import FleetGain
from protocol.recipe import Recipe
from protocol.samples import empty_batch
from tests.edge.samples import SCHEMA, samples

_OWN = Decision(True, "by the hold-out", 4, ranking_gain=0.3)


def _recipe(mean: float) -> Recipe:
    return Recipe(fleet_gains=(FleetGain(samples_from=0, devices=200, mean=mean, error=0.005, spread=0.02),))


def test_a_fleet_that_loses_keeps_h0() -> None:
    """A hold-out too small to know its own error does not outvote it, whatever it shows."""
    decision = hear_fleet(_OWN, 20, _recipe(-0.05))
    assert not decision.activate
    assert "200 other devices" in decision.reason
    assert decision.expected_gain == pytest.approx(-0.05)


@pytest.mark.parametrize("recipe", [Recipe(), _recipe(0.01), _recipe(-0.003)])
def test_a_fleet_that_gains_or_is_silent_leaves_the_decision(recipe: Recipe) -> None:
    """Personal if it was, h0 if the hold-out had its veto; a model that is only surer of itself loses a little."""
    for own in (_OWN, replace(_OWN, activate=False)):
        decision = hear_fleet(own, 20, recipe)
        assert (decision.activate, decision.reason) == (own.activate, own.reason)


def test_a_device_that_is_sure_of_itself_is_heard() -> None:
    """With a large hold-out it may gain where the fleet loses, and lose where the fleet gains."""
    sure = replace(_OWN, ranking_gain_error=0.005)
    assert hear_fleet(sure, 500, _recipe(-0.05)).activate
    assert not hear_fleet(replace(sure, ranking_gain=-0.3), 500, _recipe(0.01)).activate
    unsure = replace(_OWN, ranking_gain_error=2.0)
    assert not hear_fleet(unsure, 500, _recipe(-0.05)).activate


def test_the_gate_reports_what_ranking_gained(recommender: Trainer) -> None:
    """With its error where the hold-out is large enough, and is overruled by a fleet that is surer and loses."""
    tuned = tune(recommender, samples(600), empty_batch(SCHEMA), np.zeros(0, np.float32), Recipe(steps=300))
    few, many = (gate(recommender, tuned.weights, samples(n, seed=3), Recipe()) for n in (8, 200))
    assert few.ranking_gain is not None
    assert few.ranking_gain_error is None
    assert many.ranking_gain_error is not None
    assert 0 < many.ranking_gain_error < 0.1
    loses = gate(recommender, tuned.weights, samples(8, seed=3), _recipe(-1.0))
    assert not loses.activate
    assert loses.ranking_gain == few.ranking_gain


def test_a_large_holdout_costs_little_memory(recommender: Trainer) -> None:
    """Every pair of 8,000 samples would take a hundred megabytes: the gate pairs the latest alone."""
    holdout = samples(8000, seed=3)
    recommender.logits(holdout.features)  # so that the runtime's own buffers are there
    tracemalloc.start()
    try:
        found = gate(recommender, recommender.model.get_weights(), holdout, Recipe())
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.ranking_gain == 0
    assert peak_bytes < 16e6


def test_the_ranking_loss_does_not_see_calibration() -> None:
    """Logits that all rise alike rank as before; log-loss calls that a change."""
    logits, label = np.array([0.3, -0.2, 1.0, 0.1]), np.array([1, 0, 0, 1])
    pairs = ranking_losses(logits, label)
    assert pairs.shape == (2, 2)
    assert pairs[0, 0] == pytest.approx(np.log(1 + np.exp(-0.5)))
    assert ranking_losses(logits + 2, label) == pytest.approx(pairs)
    assert log_losses(logits + 2, label).mean() != pytest.approx(log_losses(logits, label).mean())
