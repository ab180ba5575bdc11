"""What came of a round, from what its phases left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.learning.gate import Decision
from edge.storage.artefacts import Artefacts
from profiling.record import ACTIVATED, KEPT_H0, Outcome
from protocol.fleet_gain import RANKING_GAIN, RANKING_GAIN_ERROR
from protocol.samples import SampleBatch


def outcome_of(decision: Decision, kept: Artefacts, samples_local: int, matched: SampleBatch, refused: int) -> Outcome:
    """What a round that came to its end says of itself.

    Args:
        decision: The gate's.
        kept: What the round's phases gave.
        samples_local: The device's own samples.
        matched: Those that the cloud sent.
        refused: Messages that could not be read.
    """
    found, losses = kept.classification(), kept.losses()
    quarter = max(1, len(losses) // 4)
    return Outcome(
        decision=ACTIVATED if decision.activate else KEPT_H0,
        reason=decision.reason,
        samples_local=samples_local,
        samples_matched=len(matched),
        samples_kept=found.samples_kept,
        metrics={
            "holdout_samples": float(decision.holdout_samples),
            "holdout_log_loss_h0": decision.log_loss_h0,
            "holdout_log_loss_personal": decision.log_loss_personal,
            "holdout_auc_h0": decision.auc_h0,
            "holdout_auc_personal": decision.auc_personal,
            RANKING_GAIN: decision.ranking_gain,
            RANKING_GAIN_ERROR: decision.ranking_gain_error,
            "expected_ranking_gain": decision.expected_gain,
            "classifier_heldout_auc": found.heldout_auc,
            "local_samples_without_slots": float(kept.dropped()),
            "matched_samples_without_slots": float(len(matched) - len(found.keep_weights)),
            "messages_refused": float(refused),
            "tuning_loss_first_quarter": _finite_mean(losses[:quarter]),
            "tuning_loss_last_quarter": _finite_mean(losses[-quarter:]),
        },
    )


def _finite_mean(losses: NDArray[np.float32]) -> float | None:
    mean = float(losses.mean()) if len(losses) else float("nan")
    return mean if np.isfinite(mean) else None
