"""The gate: may the personal model replace h0, by the latest local samples, which neither trained on?

A hold-out of a few samples is mostly noise. So it has a veto alone: h0 stays where it speaks against the personal model
by more than so many of its own standard errors. Whether personalising pays at all is for the fleet to say: what other
devices reported to gain in ranking, corrected by this device's own as far as its hold-out can be believed, must be
above ``fleet_min_gain``. Where the fleet is silent yet, a device has the benefit of the doubt.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.learning.metrics import auc, log_losses, ranking_losses
from edge.learning.model import Weights
from edge.learning.trainer import Trainer
from protocol.fleet_gain import gain_of_fleet
from protocol.recipe import Recipe
from protocol.samples import SampleBatch

# A hold-out has a say beside the fleet from so many samples of each label on: of fewer its error cannot be told.
FEWEST_TO_WEIGH = 5
# Samples of each label that are paired, the latest: their pairs take 2 MB.
_MOST_TO_PAIR = 500


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
        ranking_gain: By how much the hold-out's ranking loss falls, nats; what devices report to their fleet.
        ranking_gain_error: Its standard error.
        expected_gain: The same after the fleet was heard.
    """

    activate: bool
    reason: str
    holdout_samples: int
    log_loss_h0: float | None = None
    log_loss_personal: float | None = None
    auc_h0: float | None = None
    auc_personal: float | None = None
    ranking_gain: float | None = None
    ranking_gain_error: float | None = None
    expected_gain: float | None = None

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


def gate(
    recommender: Trainer, personal: Weights, holdout: SampleBatch, recipe: Recipe, *, samples_local: int = 0
) -> Decision:
    """Compare both models on the hold-out.

    Args:
        recommender: Left with h0's weights.
        personal: The personal model's weights.
        holdout: Samples that nothing was trained on.
        recipe: ``gate_min_gain``: by how much log-loss must fall; ``gate_standard_errors``: the benefit of the doubt;
            ``fleet_gains``: what other devices found; ``fleet_min_gain``: what it must come to.
        samples_local: Of the device in all: it is compared with devices that have about as many; 0 with all.
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
    return hear_fleet(
        _decide(recommender.logits(holdout.features), personal_logits, holdout, recipe), samples_local, recipe
    )


def hear_fleet(decision: Decision, samples_local: int, recipe: Recipe) -> Decision:
    """The decision after the fleet was heard: it may keep h0 where the device's own hold-out did not.

    Args:
        decision: By the hold-out alone.
        samples_local: Of the device.
        recipe: ``fleet_gains`` and ``fleet_min_gain``.
    """
    fleet = gain_of_fleet(recipe.fleet_gains, samples_local)
    if fleet is None or decision.ranking_gain is None:
        return decision
    expected = fleet.expected(decision.ranking_gain, decision.ranking_gain_error)
    said = replace(decision, expected_gain=expected)
    if not decision.activate or expected > recipe.fleet_min_gain:
        return said
    reason = (
        f"{fleet.devices} other devices gained {fleet.mean:+.4f} in ranking loss, this one may expect {expected:+.4f}: "
        "h0 is kept"
    )
    return replace(said, activate=False, reason=reason)


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
    rows = _latest_of_each_label(holdout.label)
    labels = holdout.label[rows]
    pairs = ranking_losses(h0[rows], labels) - ranking_losses(personal[rows], labels)
    return Decision(
        activate=activate,
        reason=f"hold-out log-loss {before:.4f} -> {after:.4f}, needed gain {needed:.4f}: {verdict}",
        holdout_samples=len(holdout),
        log_loss_h0=before,
        log_loss_personal=after,
        auc_h0=auc(h0, holdout.label),
        auc_personal=auc(personal, holdout.label),
        ranking_gain=float(pairs.mean()),
        ranking_gain_error=_error_of_mean(pairs),
    )


def _latest_of_each_label(labels: NDArray[np.float32]) -> NDArray[np.intp]:
    """Rows of at most `_MOST_TO_PAIR` positives and negatives: pairs are their product, in memory too."""
    rows = [np.flatnonzero(positive)[-_MOST_TO_PAIR:] for positive in (labels > 0.5, labels <= 0.5)]
    return np.sort(np.concatenate(rows))


def _error_of_mean(pairs: NDArray[np.float64]) -> float | None:
    """Standard error of a mean over pairs, whose samples are drawn and not they themselves (DeLong et al., 1988)."""
    if min(pairs.shape) < FEWEST_TO_WEIGH:
        return None
    variances = (pairs.mean(axis=axis).var(ddof=1) / pairs.shape[1 - axis] for axis in (0, 1))
    return float(np.sqrt(sum(variances)))
