"""From local and matched samples to a personal model or a reason to keep h0: classify, tune, gate.

Pure compute, the same for a device's round, which stores what each step gives before the next, and for an evaluation,
which calls `personalise`. Deterministic by the recipe's seed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from edge.learning.classifier import Classification, classify
from edge.learning.gate import Decision, gate, split_holdout
from edge.learning.model import Weights
from edge.learning.trainer import Progress, Trainer
from edge.learning.tuning import Tuned, tune_twice
from protocol.recipe import Recipe
from protocol.samples import SampleBatch

Phase = Callable[[str], AbstractContextManager[object]]
PhaseProgress = Callable[[str, int, int], None]
Weigh = Callable[..., Classification]
"""Weighs matched samples as `edge.learning.classifier.classify` does, with its arguments."""


@dataclass(frozen=True)
class Outcome:
    """What personalising gave.

    Attributes:
        decision: Which model to serve, and why.
        samples_local: Local samples in all.
        samples_matched: Matched samples in all.
        samples_kept: Effective number of matched samples kept.
        classification: None where there were too few samples.
        tuned: On all local samples; None where there were too few.
    """

    decision: Decision
    samples_local: int
    samples_matched: int
    samples_kept: int
    classification: Classification | None = None
    tuned: Tuned | None = None

    @property
    def weights(self) -> Weights | None:
        """The weights to serve; None for h0's."""
        return self.tuned.weights if self.tuned is not None and self.decision.activate else None


def too_few(local: SampleBatch, recipe: Recipe) -> str:
    """Why these samples are not enough to personalise with; "" if they are."""
    if len(local) < recipe.min_local_samples:
        return f"too few samples: {len(local)} local, {recipe.min_local_samples} are needed; h0 is served"
    if local.label.min() == local.label.max():
        return f"all {len(local)} local samples have label {local.label[0]:.0f}: nothing to tell apart; h0 is served"
    return ""


def personalise(
    recommender: Trainer,
    classifier: Trainer,
    local: SampleBatch,
    matched: SampleBatch,
    recipe: Recipe,
    *,
    weigh: Weigh = classify,
    phase: Phase = nullcontext,
    on_progress: PhaseProgress | None = None,
) -> Outcome:
    """Classify, tune and gate.

    Args:
        recommender: h0.
        classifier: g.
        local: All local samples; what the gate judges was tuned without the latest share.
        matched: What the cloud found; may be empty.
        recipe: Hyper-parameters.
        weigh: How matched samples get their keep weights; an evaluation compares ways.
        phase: Entered as ``phase("classify")`` and so on around each step, to measure it.
        on_progress: Called with phase, steps done and steps in all.
    """
    reason = too_few(local, recipe)
    if reason:
        return Outcome(Decision(False, reason, 0), len(local), len(matched), 0)
    training, holdout = split_holdout(local, recipe.holdout_share)
    with phase("classify"):
        found = weigh(recommender, classifier, training, matched, recipe, on_progress=_named(on_progress, "classify"))
    with phase("tune"):
        trial, tuned = tune_twice(
            recommender,
            (training, local),
            matched,
            found.keep_weights,
            recipe,
            on_progress=_named(on_progress, "tune"),
        )
    with phase("gate"):
        decision = gate(recommender, trial.weights, holdout, recipe, samples_local=len(local))
    return Outcome(decision, len(local), len(matched), found.samples_kept, found, tuned)


def _named(on_progress: PhaseProgress | None, phase: str) -> Progress | None:
    return None if on_progress is None else lambda done, total: on_progress(phase, done, total)
