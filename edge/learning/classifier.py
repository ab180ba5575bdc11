"""The sample classifier g: which matched samples look like the device's own, and how much each is to count.

g sees what was shown (`content`) and what came of it (`outcome`), never who: user ids or histories would tell local
from matched trivially. Each matched sample is scored by a g that did not train on it, or g would find its own training
negatives foreign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.learning.metrics import auc
from edge.learning.sampling import Array, Group, MixedSampler, Rows
from edge.learning.trainer import Progress, Trainer
from protocol.recipe import Recipe
from protocol.samples import SampleBatch

# Held-out AUC from which g is taken at its word. Half of what is matched may be like the device's own; then no g gets
# further than 0.75.
TRUSTED_AUC = 0.75
HARD_QUANTILE = 0.25  # the hard rule keeps what looks at least as local as this quantile of the device's own samples


@dataclass(frozen=True)
class Classification:
    """What g says of the matched samples.

    Attributes:
        scores: P(local) of each matched sample, out of fold, float32 [m]; empty where g was not trained.
        keep_weights: What each counts in the fine-tuning, float32 [m], 0 or more.
        heldout_auc: How well g tells local from matched samples that it did not train on: 0.5 says alike.
        reason: Why g was not trained, else "".
    """

    scores: NDArray[np.float32]
    keep_weights: NDArray[np.float32]
    heldout_auc: float | None
    reason: str = ""

    @property
    def samples_kept(self) -> int:
        """Matched samples that the fine-tuning may draw, as their effective number, (sum w)^2 / sum w^2.

        Under the hard rule that is the number kept; under the soft rule, how many equally weighted ones they are worth.
        """
        squares = float(np.square(self.keep_weights, dtype=np.float64).sum())
        return round(float(self.keep_weights.sum(dtype=np.float64)) ** 2 / squares) if squares > 0 else 0


def classify(
    recommender: Trainer,
    classifier: Trainer,
    local: SampleBatch,
    matched: SampleBatch,
    recipe: Recipe,
    *,
    on_progress: Progress | None = None,
) -> Classification:
    """Train g by cross-fitting and weigh the matched samples.

    Args:
        recommender: Gives h0's item vectors; reset to h0.
        classifier: g; reset before each fold, and left as the last fold trained it.
        local: Positives.
        matched: Negatives, which hide positives among them.
        recipe: Steps, learning rate, folds, keep rule, seed.
        on_progress: Called with steps done and steps of all folds.
    """
    if min(len(local), len(matched)) < recipe.classifier_folds:
        reason = f"{len(local)} local and {len(matched)} matched samples are too few to cross-fit"
        return Classification(np.empty(0, np.float32), np.ones(len(matched), np.float32), None, reason)
    columns = _inputs(recommender, local, matched)
    rng = np.random.default_rng(recipe.seed)
    folds = np.concatenate([_folds(len(batch), recipe.classifier_folds, rng) for batch in (local, matched)])
    scores = _cross_fit(classifier, columns, folds, recipe, rng=rng, on_progress=on_progress)
    own, theirs = scores[: len(local)], scores[len(local) :]
    heldout_auc = _heldout_auc(scores, columns["label"], folds)
    return Classification(theirs, keep_weights(own, theirs, recipe, trust(heldout_auc)), heldout_auc)


def _inputs(recommender: Trainer, local: SampleBatch, matched: SampleBatch) -> dict[str, Array]:
    recommender.reset()
    batches = (local, matched)
    return {
        "content": np.concatenate([recommender.model.embed(batch.features)[1] for batch in batches]),
        "outcome": np.concatenate([batch.label for batch in batches])[:, np.newaxis],
        "label": np.repeat(np.array([1, 0], np.float32), [len(local), len(matched)]),
    }


def _folds(samples: int, folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    assignment: NDArray[np.intp] = rng.permutation(samples) % folds
    return assignment


def _cross_fit(
    classifier: Trainer,
    columns: dict[str, Array],
    folds: NDArray[np.intp],
    recipe: Recipe,
    *,
    rng: np.random.Generator,
    on_progress: Progress | None,
) -> NDArray[np.float32]:
    scores = np.empty(len(folds), np.float32)
    for fold in range(recipe.classifier_folds):
        classifier.reset()
        sampler = _balanced(columns, np.flatnonzero(folds != fold), rng)
        progress = _fold_progress(on_progress, fold, recipe)
        classifier.fit(sampler, recipe.classifier_steps, recipe.classifier_learning_rate, on_progress=progress)
        out = folds == fold
        scores[out] = classifier.predict({name: columns[name][out] for name in ("content", "outcome")})
    return scores


def _balanced(columns: dict[str, Array], rows: Rows, rng: np.random.Generator) -> MixedSampler:
    """Half local, half matched in each batch, so that g / (1 - g) is the ratio of their densities."""
    is_local = columns["label"][rows] > 0.5
    return MixedSampler(columns, [Group(rows[is_local], 0.5), Group(rows[~is_local], 0.5)], rng)


def _fold_progress(on_progress: Progress | None, fold: int, recipe: Recipe) -> Progress | None:
    if on_progress is None:
        return None
    before, total = fold * recipe.classifier_steps, recipe.classifier_folds * recipe.classifier_steps
    return lambda done, _: on_progress(before + done, total)


def trust(heldout_auc: float | None) -> float:
    """How far g is to be believed, 0 to 1: not at all where it cannot tell held-out samples apart.

    A g of 20 samples often has learnt nothing, and weights of such a g are noise that costs variety (0.003 to 0.005 of
    mean user AUC with 5 events, docs/evaluation-notes.md).
    """
    if heldout_auc is None:
        return 0.0
    return min(max((heldout_auc - 0.5) / (TRUSTED_AUC - 0.5), 0.0), 1.0)


def keep_weights(
    own: NDArray[np.float32], theirs: NDArray[np.float32], recipe: Recipe, trusted: float = 1.0
) -> NDArray[np.float32]:
    """Weigh matched samples by g's scores.

    Args:
        own: Out-of-fold scores of the local samples; they set the hard rule's threshold on this device.
        theirs: Out-of-fold scores of the matched samples.
        recipe: ``soft`` gives g / (1 - g) to the power of ``trusted``, up to ``keep_weight_clip``; ``hard`` gives 0
            or 1.
        trusted: As `trust` says; 0 weighs all samples alike.
    """
    if recipe.keep_rule == "hard":
        return (theirs >= np.quantile(own, HARD_QUANTILE)).astype(np.float32)
    ratio: NDArray[np.float32] = theirs / np.maximum(np.float32(1) - theirs, np.float32(1e-6))
    return np.minimum(ratio ** np.float32(trusted), np.float32(recipe.keep_weight_clip))


def _heldout_auc(scores: NDArray[np.float32], labels: Array, folds: NDArray[np.intp]) -> float | None:
    """Mean over folds: scores of different classifiers are not compared."""
    values = [auc(scores[folds == fold], labels[folds == fold]) for fold in np.unique(folds)]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
