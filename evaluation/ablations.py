"""CoDA with one thing changed: what each part of a round is worth.

Each runs the device's own round. What a recipe can say is changed in the recipe; ways to weigh matched samples that a
device does not offer stand here, over the same classifier and trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge.learning.classifier import Classification, classify, keep_weights
from edge.learning.gate import split_holdout
from edge.learning.metrics import log_losses
from edge.learning.personalise import Weigh, too_few
from edge.learning.sampling import Array, Group, MixedSampler
from edge.learning.trainer import Trainer
from edge.learning.tuning import interpolate, tune_twice
from evaluation.bench import Bench, Logits, Material
from protocol.recipe import Recipe
from protocol.samples import SampleBatch

Run = Callable[[Bench, Material], Logits]

# Shares of the way from h0 that a device may choose of; 0 is h0 itself, so that the choice is a gate too.
ALPHAS = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0)
_HALF = 0.5


def with_recipe(**changes: object) -> Run:
    """CoDA with other hyper-parameters."""

    def run(bench: Bench, material: Material) -> Logits:
        served = bench.served(material, material.matched, replace(bench.recipe, **changes))  # type: ignore[arg-type]
        return bench.recommender.logits(material.test, served.personal)

    return run


def weighed_by(weigh: Weigh) -> Run:
    """CoDA with another way to weigh matched samples."""

    def run(bench: Bench, material: Material) -> Logits:
        served = bench.served(material, material.matched, bench.recipe, weigh)
        return bench.recommender.logits(material.test, served.personal)

    return run


def without_gate(bench: Bench, material: Material) -> Logits:
    """CoDA's tuned model, whatever the gate said of it."""
    return bench.recommender.logits(material.test, bench.coda(material).tuned)


def with_random(bench: Bench, material: Material) -> Logits:
    """CoDA's whole round on random samples of the pool."""
    return _on(bench, material, material.random)


def with_nearest(bench: Bench, material: Material) -> Logits:
    """CoDA's whole round on the first quarter of the matched samples: a smaller K."""
    return _on(bench, material, material.nearest)


def with_agreed(bench: Bench, material: Material) -> Logits:
    """CoDA's whole round on what the cloud matches by the device's opinions."""
    return _on(bench, material, material.agreed)


def by_agreement(bench: Bench, material: Material) -> Logits:
    """CoDA's whole round on as many samples of the users who agree with the device's own on shared items."""
    users = bench.neighbours.rank(material.local, material.user)
    rows = bench.neighbours.rows_of_first(users, len(material.matched))
    return _on(bench, material, bench.neighbours.pool.take(np.sort(rows)))


def frozen(run: Run) -> Run:
    """An arm with a model file whose embeddings do not train."""
    return lambda bench, material: run(bench.over_frozen, material)


def with_chosen_alpha(bench: Bench, material: Material) -> Logits:
    """CoDA's samples and weights; how far to go from h0 is chosen by the hold-out, instead of the gate."""
    if too_few(material.local, bench.recipe):
        return bench.h0(material)
    recipe = replace(bench.recipe, interpolation=1.0)
    ready = bench.recommender.prepare(material.local, material.matched)
    training, holdout = split_holdout(ready.local, recipe.holdout_share)
    found = classify(ready.trainer, bench.classifier, training, ready.matched, recipe)
    parts = (training, ready.local)
    trial, final = tune_twice(ready.trainer, parts, ready.matched, found.keep_weights, recipe)
    losses = []
    for alpha in ALPHAS:
        ready.trainer.restore(interpolate(ready.trainer.initial, trial.weights, alpha))
        losses.append(log_losses(ready.trainer.logits(holdout.features), holdout.label).mean())
    alpha = ALPHAS[int(np.argmin(losses))]
    chosen = interpolate(ready.trainer.initial, final.weights, alpha)
    return bench.recommender.logits(material.test, ready.personal(chosen))


def all_alike(
    _recommender: Trainer, _classifier: Trainer, _local: SampleBatch, matched: SampleBatch, _recipe: Recipe, **_: object
) -> Classification:
    """Every matched sample counts the same: no classifier."""
    return _weighed(np.ones(len(matched), np.float32))


def without_label(
    recommender: Trainer, classifier: Trainer, local: SampleBatch, matched: SampleBatch, recipe: Recipe, **_: object
) -> Classification:
    """The classifier sees what was shown and not what came of it: density of x alone."""
    return classify(recommender, classifier, _blank(local), _blank(matched), recipe)


def by_score(
    recommender: Trainer, classifier: Trainer, local: SampleBatch, matched: SampleBatch, recipe: Recipe, **_: object
) -> Classification:
    """P(local) itself for a weight, in place of the ratio of densities that it implies."""
    found = classify(recommender, classifier, local, matched, recipe)
    return found if found.reason else replace(found, keep_weights=found.scores)


def above_half(
    recommender: Trainer, classifier: Trainer, local: SampleBatch, matched: SampleBatch, recipe: Recipe, **_: object
) -> Classification:
    """The hard rule with one threshold, 0.5, for all devices."""
    found = classify(recommender, classifier, local, matched, recipe)
    return found if found.reason else replace(found, keep_weights=(found.scores >= _HALF).astype(np.float32))


def without_folds(
    recommender: Trainer, classifier: Trainer, local: SampleBatch, matched: SampleBatch, recipe: Recipe, **_: object
) -> Classification:
    """One classifier that scores the very samples it trained on, for as many steps as all folds take."""
    if len(matched) == 0:
        return all_alike(recommender, classifier, local, matched, recipe)
    recommender.reset()
    classifier.reset()
    own, theirs = (_inputs(recommender, batch) for batch in (local, matched))
    columns = {name: np.concatenate([own[name], theirs[name]]) for name in own}
    columns["label"] = np.repeat(np.array([1, 0], np.float32), [len(local), len(matched)])
    halves = [Group(np.flatnonzero(columns["label"] == kind), 0.5) for kind in (1, 0)]
    sampler = MixedSampler(columns, halves, np.random.default_rng(recipe.seed))
    classifier.fit(sampler, recipe.classifier_folds * recipe.classifier_steps, recipe.classifier_learning_rate)
    scores = classifier.predict(theirs)
    return replace(_weighed(keep_weights(classifier.predict(own), scores, recipe)), scores=scores)


def _on(bench: Bench, material: Material, others: SampleBatch) -> Logits:
    served = bench.served(material, others, bench.recipe)
    return bench.recommender.logits(material.test, served.personal)


def _weighed(weights: NDArray[np.float32]) -> Classification:
    return Classification(np.empty(0, np.float32), weights, None)


def _blank(batch: SampleBatch) -> SampleBatch:
    return replace(batch, label=np.zeros(len(batch), np.float32))


def _inputs(recommender: Trainer, batch: SampleBatch) -> dict[str, Array]:
    return {"content": recommender.model.embed(batch.features)[1], "outcome": batch.label[:, np.newaxis]}
