"""The gate: may the personal model replace h0, by the latest local samples, which neither trained on?

A hold-out of a few samples is mostly noise, and fine-tuning helps most devices. So the gate is a veto: h0 stays where
the hold-out speaks against the personal model by more than so many of its own standard errors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.metrics import auc, log_losses
from edge.model import Weights
from edge.trainer import Trainer
from protocol.recipe import Recipe
from protocol.samples import SampleBatch


@dataclass(frozen=True)
class Decision:
    """Which model is served, and the numbers behind it; a number is None where it could not be had.

    Attributes:
        activate: Whether the personal model is served; else h0 is.
        reason: Why, in words.
        holdout_samples: Local samples that the gate judged on.
        log_loss_h0: Hold-out log-loss of h0, nats.
        log_loss_personal: That of the personal model.
        auc_h0: Hold-out AUC of h0, for information.
        auc_personal: That of the personal model.
    """

    activate: bool
    reason: str
    holdout_samples: int
    log_loss_h0: float | None = None
    log_loss_personal: float | None = None
    auc_h0: float | None = None
    auc_personal: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the store and the report."""
        return asdict(self)


def split_holdout(local: SampleBatch, share: float) -> tuple[SampleBatch, SampleBatch]:
    """Split local samples into those to train on and the latest ``share`` for the gate, both in time order.

    The share is taken of each label: a hold-out of one class would only tell whether the model now says yes more often.
    A label's only sample is trained on.
    """
    order = np.argsort(local.time_s, kind="stable")
    held = np.zeros(len(local), bool)
    for positive in (False, True):
        rows = order[(local.label[order] > 0.5) == positive]
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        if count > 0:
            held[rows[-count:]] = True
    return local.take(order[~held[order]]), local.take(order[held[order]])


def gate(recommender: Trainer, personal: Weights, holdout: SampleBatch, recipe: Recipe) -> Decision:
    """Compare both models on the hold-out.

    Args:
        recommender: Left with h0's weights.
        personal: The personal model's weights.
        holdout: Samples that nothing was trained on.
        recipe: ``gate_min_gain``: by how much log-loss must fall; ``gate_standard_errors``: the benefit of the doubt.
    """
    reason = _unfit(holdout)
    if reason:
        recommender.reset()
        return Decision(False, reason, len(holdout))
    recommender.restore(personal)
    personal_logits = recommender.logits(holdout.features)
    recommender.reset()
    if not np.isfinite(personal_logits).all():
        return Decision(False, "the fine-tuning diverged: h0 is kept", len(holdout))
    return _decide(recommender.logits(holdout.features), personal_logits, holdout, recipe)


def _unfit(holdout: SampleBatch) -> str:
    if len(holdout) == 0:
        return "no local sample could be held out: h0 is kept"
    if holdout.label.min() == holdout.label.max():
        return f"all {len(holdout)} held-out samples have label {holdout.label[0]:.0f}: they cannot judge, h0 is kept"
    return ""


def _decide(h0: NDArray[np.float32], personal: NDArray[np.float32], holdout: SampleBatch, recipe: Recipe) -> Decision:
    losses_before, losses_after = log_losses(h0, holdout.label), log_losses(personal, holdout.label)
    gains = losses_before - losses_after
    standard_error = float(gains.std() / np.sqrt(len(gains)))
    needed = recipe.gate_min_gain - recipe.gate_standard_errors * standard_error
    activate = bool(gains.mean() > needed)
    before, after = float(losses_before.mean()), float(losses_after.mean())
    verdict = "the personal model is served" if activate else "h0 is kept"
    return Decision(
        activate=activate,
        reason=f"hold-out log-loss {before:.4f} -> {after:.4f}, needed gain {needed:.4f}: {verdict}",
        holdout_samples=len(holdout),
        log_loss_h0=before,
        log_loss_personal=after,
        auc_h0=auc(h0, holdout.label),
        auc_personal=auc(personal, holdout.label),
    )
