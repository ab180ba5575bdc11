"""From samples to a personal model or a reason to keep h0, with real converted models."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import pytest

from edge.learning.classifier import classify
from edge.learning.gate import gate
from edge.learning.personalise import Outcome, personalise
from edge.learning.profile import build_profile
from edge.learning.trainer import Trainer
from edge.learning.tuning import tune, tune_twice
from protocol.recipe import Recipe
from protocol.samples import SampleBatch, concatenate, empty_batch
from protocol.topics import MAX_PROFILE_BYTES
from tests.edge.samples import SCHEMA, samples

RECIPE = Recipe(steps=300, learning_rate=0.2, classifier_steps=300, classifier_learning_rate=0.5)
NOTHING = empty_batch(SCHEMA)
MATCHED = concatenate([samples(1800, taste=0, seed=1), samples(200, taste=1, seed=2)])


@pytest.fixture
def outcome(recommender: Trainer, classifier: Trainer) -> Outcome:
    """A device with 100 samples, and 2,000 matched ones, most of them of its taste."""
    return personalise(recommender, classifier, samples(100), MATCHED, RECIPE)


def test_a_personal_model_is_served_where_it_is_better(outcome: Outcome) -> None:
    """h0 knows nothing here, so tuning must win the gate, and the numbers must say so."""
    decision = outcome.decision
    assert decision.activate, decision.reason
    assert outcome.weights is not None
    assert decision.log_loss_personal is not None
    assert decision.log_loss_h0 is not None
    assert decision.log_loss_personal < decision.log_loss_h0
    assert decision.holdout_samples == 20
    assert (outcome.samples_local, outcome.samples_matched) == (100, 2000)
    assert 0 < outcome.samples_kept <= 2000


def test_the_same_seed_gives_the_same_model(recommender: Trainer, classifier: Trainer, outcome: Outcome) -> None:
    """A round that is repeated after a cut comes to the same."""
    again = personalise(recommender, classifier, samples(100), MATCHED, RECIPE)
    assert again.decision == outcome.decision
    assert outcome.tuned is not None
    assert again.tuned is not None
    for name, value in outcome.tuned.weights.items():
        assert (again.tuned.weights[name] == value).all()


def test_the_classifier_prefers_what_looks_local(recommender: Trainer, classifier: Trainer) -> None:
    """Matched samples of the device's own taste get more weight than those of the opposite taste."""
    matched = concatenate([samples(300, taste=0, seed=1, noise=0.0), samples(300, taste=1, seed=2, noise=0.0)])
    recipe = Recipe(classifier_steps=2000, classifier_learning_rate=0.5)
    found = classify(recommender, classifier, samples(600, noise=0.0), matched, recipe)
    weights = found.keep_weights
    assert weights.shape == (600,)
    odds = found.scores / (1 - found.scores)
    assert odds[:300].mean() > 1.2 * odds[300:].mean()
    assert weights[:300].mean() > weights[300:].mean()
    assert weights.max() <= recipe.keep_weight_clip
    assert found.heldout_auc is not None
    assert found.heldout_auc > 0.5


def test_alike_samples_are_not_told_apart(recommender: Trainer, classifier: Trainer) -> None:
    """Where local and matched come from one source, cross-fitting shows an AUC near one half."""
    found = classify(recommender, classifier, samples(300, seed=5), samples(300, seed=6), RECIPE)
    assert found.heldout_auc == pytest.approx(0.5, abs=0.1)


def test_too_few_to_cross_fit_keeps_everything(recommender: Trainer, classifier: Trainer) -> None:
    """Without a classifier every matched sample counts alike, and the reason is told."""
    found = classify(recommender, classifier, samples(50), samples(1), RECIPE)
    assert found.keep_weights.tolist() == [1.0]
    assert "too few to cross-fit" in found.reason


def test_without_matched_samples_tuning_is_local(recommender: Trainer, classifier: Trainer) -> None:
    """As many gradient steps, all on local samples."""
    outcome = personalise(recommender, classifier, samples(60), NOTHING, RECIPE)
    assert outcome.tuned is not None
    assert not outcome.tuned.augmented
    assert len(outcome.tuned.losses) == RECIPE.steps
    assert outcome.samples_kept == 0


def test_samples_of_no_weight_are_never_trained_on(recommender: Trainer) -> None:
    """Poison of keep weight 0 among the matched samples leaves the tuned model as it would be without it."""
    good, poison = samples(100, seed=1), samples(100, taste=1, seed=2)
    weights = np.repeat(np.array([1, 0], np.float32), 100)
    mixed = tune(recommender, samples(60), concatenate([good, poison]), weights, RECIPE)
    pure = tune(recommender, samples(60), good, np.ones(100, np.float32), RECIPE)
    for name, value in pure.weights.items():
        assert mixed.weights[name] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("local", [samples(0), samples(19), samples(40).take(samples(40).label > 0.5)])
def test_too_few_samples_serve_h0(recommender: Trainer, classifier: Trainer, local: SampleBatch) -> None:
    """None, fewer than the recipe asks for, or of one label: h0, with a reason, and nothing is trained."""
    outcome = personalise(recommender, classifier, local, samples(100), RECIPE)
    assert not outcome.decision.activate
    assert "h0 is served" in outcome.decision.reason
    assert outcome.weights is None
    assert outcome.tuned is None


def test_the_gate_keeps_h0_where_nothing_is_gained(recommender: Trainer) -> None:
    """Equal models do not replace h0."""
    decision = gate(recommender, recommender.snapshot(), samples(40), RECIPE)
    assert not decision.activate
    assert decision.log_loss_h0 == decision.log_loss_personal


def test_the_gate_asks_for_the_gain_that_the_recipe_asks_for(recommender: Trainer) -> None:
    """The same personal model passes a low bar and fails a high one."""
    tuned = tune(recommender, samples(600), NOTHING, np.zeros(0, np.float32), RECIPE)
    assert gate(recommender, tuned.weights, samples(60, seed=3), Recipe(gate_min_gain=0.001)).activate
    assert not gate(recommender, tuned.weights, samples(60, seed=3), Recipe(gate_min_gain=5.0)).activate


def test_the_gate_gives_the_benefit_of_the_doubt(recommender: Trainer) -> None:
    """A loss within its own standard error does not keep h0; asked to be strict, the gate keeps it."""
    start = recommender.snapshot()
    rng = np.random.default_rng(1)
    noise = {name: rng.standard_normal(value.shape, np.float32) for name, value in start.items()}
    shaken = {name: value + np.float32(0.02) * noise[name] for name, value in start.items()}
    holdout = samples(12, seed=3)
    decisions = [gate(recommender, shaken, holdout, Recipe(gate_standard_errors=k)) for k in (0.0, 100.0)]
    gains = [(d.log_loss_h0 or 0.0) - (d.log_loss_personal or 0.0) for d in decisions]
    assert gains[0] == gains[1]
    assert decisions[0].activate == (gains[0] > 0)
    assert decisions[1].activate


def test_tuned_weights_go_part_of_the_way_from_h0(recommender: Trainer) -> None:
    """At a share of one half every weight lies midway between h0's and the fully tuned one's."""
    recommender.reset()
    start = recommender.snapshot()
    nothing = np.zeros(0, np.float32)
    half, whole = (
        tune(recommender, samples(60), NOTHING, nothing, replace(RECIPE, interpolation=share)).weights
        for share in (0.5, 1.0)
    )
    for name, value in start.items():
        assert half[name] == pytest.approx((value + whole[name]) / 2, abs=1e-6)


def test_what_is_served_has_seen_the_hold_out_and_what_is_judged_has_not(recommender: Trainer) -> None:
    """The first model equals one tuned on the training part alone, the second one tuned on everything."""
    part, everything, nothing = samples(40), samples(60), np.zeros(0, np.float32)
    trial, final = tune_twice(recommender, (part, everything), NOTHING, nothing, RECIPE)
    for model, local in ((trial, part), (final, everything)):
        alone = tune(recommender, local, NOTHING, nothing, RECIPE)
        assert all(np.array_equal(model.weights[name], value) for name, value in alone.weights.items())


def test_the_gate_rejects_a_model_that_diverged(recommender: Trainer) -> None:
    """Weights that are not finite keep h0 and leave it loaded."""
    broken = {name: np.full_like(value, np.nan) for name, value in recommender.snapshot().items()}
    decision = gate(recommender, broken, samples(40), RECIPE)
    assert not decision.activate
    assert "diverged" in decision.reason
    assert np.isfinite(recommender.logits(samples(5).features)).all()


@pytest.mark.parametrize("holdout", [samples(0), samples(30).take(samples(30).label > 0.5)])
def test_the_gate_does_not_judge_by_one_class(recommender: Trainer, holdout: SampleBatch) -> None:
    """An empty or one-class hold-out keeps h0 and says why."""
    decision = gate(recommender, recommender.snapshot(), holdout, RECIPE)
    assert not decision.activate
    assert "h0 is kept" in decision.reason
    assert decision.log_loss_h0 is None


@pytest.mark.parametrize("count", [1, 5, 200])
def test_a_profile_fits_a_query(recommender: Trainer, count: int) -> None:
    """At most 1 KB, shares that sum to 1, and a message that the contract accepts."""
    profile = build_profile(recommender, samples(count), Recipe(profile_centroids=500))
    query = profile.query("q-1", 1, "a" * 64, RECIPE)
    assert len(query.centroids) <= MAX_PROFILE_BYTES
    assert sum(query.weights) == pytest.approx(1.0)
    assert query.profile() == pytest.approx(profile.centroids.astype(np.float32))
    assert len(profile.weights) <= count


def test_phases_and_progress_are_told(recommender: Trainer, classifier: Trainer) -> None:
    """Each phase is entered once, in order, and its progress ends with all steps done."""
    entered: list[str] = []
    progress: dict[str, tuple[int, int]] = {}

    def phase(name: str) -> AbstractContextManager[object]:
        entered.append(name)
        return nullcontext()

    def on_progress(name: str, done: int, total: int) -> None:
        progress[name] = (done, total)

    personalise(recommender, classifier, samples(60), samples(80), RECIPE, phase=phase, on_progress=on_progress)
    assert entered == ["classify", "tune", "gate"]
    assert progress == {"classify": (600, 600), "tune": (600, 600)}
