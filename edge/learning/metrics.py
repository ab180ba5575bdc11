"""The numbers that a device judges by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def log_losses(logits: Array, labels: Array) -> NDArray[np.float64]:
    """Binary cross-entropy of each logit [n] against its label 0 or 1 [n], in nats."""
    z = np.asarray(logits, np.float64)
    losses: NDArray[np.float64] = np.logaddexp(0.0, z) - labels * z
    return losses


def log_loss(logits: Array, labels: Array) -> float:
    """Mean of `log_losses`, n >= 1."""
    return float(log_losses(logits, labels).mean())


def ranking_losses(logits: Array, labels: Array) -> NDArray[np.float64]:
    """Loss of each pair of a positive and a negative, log(1 + exp(-difference of logits)), in nats.

    Unlike log-loss it does not change where all logits rise alike, so it tells ranking from calibration; unlike AUC it
    is smooth, so a few samples say more.

    Args:
        logits: [n], finite.
        labels: [n], above 0.5 for a positive.

    Returns:
        float64 [positives, negatives].
    """
    z, positive = np.asarray(logits, np.float64), np.asarray(labels) > 0.5
    losses: NDArray[np.float64] = np.logaddexp(0.0, z[~positive] - z[positive][:, np.newaxis])
    return losses


def auc(scores: Array, labels: Array) -> float | None:
    """Chance that a positive scores above a negative, ties counting half; None where one class is missing.

    Args:
        scores: [n], finite.
        labels: [n], above 0.5 for a positive.
    """
    positive = np.asarray(labels) > 0.5
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    _, rank, count = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2.0  # of each distinct score, from 1
    return float((mean_rank[rank.ravel()[positive]].sum() - positives * (positives + 1) / 2) / (positives * negatives))
