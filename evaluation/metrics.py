"""How well scores rank and predict, for one user and over users.

A value that is not defined, such as the AUC of a user with one class, is None and never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]


def auc(label: Scores, score: Scores) -> float | None:
    """Probability that a positive scores above a negative, a tie counting half; None if there is but one class.

    Args:
        label: [n], 0 or 1.
        score: [n], any scale.
    """
    positive = label > 0.5
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return None
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2
    rank_sum = float(mean_rank[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def user_aucs(labels: Sequence[Scores], scores: Sequence[Scores]) -> list[float | None]:
    """Each user's AUC."""
    return [auc(label, score) for label, score in zip(labels, scores, strict=True)]


def mean_defined(values: Sequence[float | None]) -> float | None:
    """Mean over the values that are defined; None if none is."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def gauc(aucs: Sequence[float | None], samples: Sequence[int]) -> float | None:
    """Mean of user AUC weighted by the users' number of samples (Zhu et al., 2017); one-class users left out."""
    pairs = [(value, count) for value, count in zip(aucs, samples, strict=True) if value is not None]
    total = sum(count for _, count in pairs)
    return sum(value * count for value, count in pairs) / total if total else None


def sigmoid(logit: Scores) -> NDArray[np.float64]:
    """Probability of a logit."""
    half: NDArray[np.float64] = 0.5 * np.asarray(logit, np.float64)
    return 0.5 + 0.5 * np.tanh(half)


def log_loss(label: Scores, logit: Scores) -> float | None:
    """Mean binary cross-entropy in nats, of logits; None without samples."""
    if len(label) == 0:
        return None
    z = np.asarray(logit, np.float64)
    return float(np.mean(np.logaddexp(0.0, z) - z * label))


def calibration_bins(label: Scores, probability: Scores, bins: int = 10) -> tuple[tuple[int, int, float, float], ...]:
    """Samples of each of ``bins`` equally wide bins: its number, how many, and the sums of prediction and label.

    Bins without samples are left out; what `expected_calibration_error` needs can so be added up over devices.
    """
    place = np.clip((np.asarray(probability) * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    predicted, observed = np.bincount(place, probability, bins), np.bincount(place, label, bins)
    return tuple((int(b), int(count[b]), float(predicted[b]), float(observed[b])) for b in np.flatnonzero(count))


def expected_calibration_error(label: Scores, probability: Scores, bins: int = 10) -> float | None:
    """Mean distance of predicted and observed rate over equally wide bins, weighted by size (Guo et al., 2017)."""
    if len(label) == 0:
        return None
    place = np.clip((np.asarray(probability) * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.bincount(place, probability, bins) - np.bincount(place, label, bins)
    return float(np.abs(gap).sum() / count.sum())


def ndcg(label: Scores, score: Scores, cutoff: int = 10) -> float | None:
    """Normalised discounted cumulative gain of binary labels at ``cutoff``; None without a positive.

    Tied scores share the gain of the places they take together, so the order of equal scores does not matter.
    """
    if not (label > 0.5).any():
        return None
    discount = np.zeros(len(label))
    top = min(cutoff, len(label))
    discount[:top] = 1 / np.log2(np.arange(2, top + 2))
    _, place, count = np.unique(-np.asarray(score, np.float64), return_inverse=True, return_counts=True)
    group_of_rank = np.repeat(np.arange(len(count)), count)
    shared = np.bincount(group_of_rank, discount) / count
    gain = float(shared[place][label > 0.5].sum())
    return gain / float(discount[: int((label > 0.5).sum())].sum())
