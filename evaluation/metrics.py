"""How well scores rank and predict, for one user and over users.

A value that is not defined, such as the AUC of a user with one class, is None and never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Bins = tuple[tuple[int, int, float, float], ...]
"""Of each bin of probabilities that has samples: its number, how many, and their sums of predictions and of labels."""

BINS = 10


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


def gauc(aucs: Sequence[float | None], samples: Sequence[float]) -> float | None:
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


def calibration_bins(label: Scores, probability: Scores) -> Bins:
    """Samples of each of `BINS` equally wide bins, of those that have any: number, count, sums of prediction and label.

    Bins of several devices can be added up, see `add_bins`.
    """
    place = np.clip((np.asarray(probability) * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    predicted, observed = np.bincount(place, probability, BINS), np.bincount(place, label, BINS)
    return tuple((int(b), int(count[b]), float(predicted[b]), float(observed[b])) for b in np.flatnonzero(count))


def add_bins(several: Iterable[Bins]) -> Bins:
    """The bins of all samples together."""
    total: dict[int, tuple[int, float, float]] = {}
    for bins in several:
        for place, count, predicted, observed in bins:
            before = total.get(place, (0, 0.0, 0.0))
            total[place] = (before[0] + count, before[1] + predicted, before[2] + observed)
    return tuple((place, *total[place]) for place in sorted(total))


def calibration_error_of(bins: Bins) -> float | None:
    """Mean distance of predicted and observed rate over bins, weighted by size (Guo et al., 2017); None if empty."""
    samples = sum(count for _, count, _, _ in bins)
    return sum(abs(predicted - observed) for _, _, predicted, observed in bins) / samples if samples else None


def predicted_to_observed(bins: Bins) -> float | None:
    """Sum of predictions by sum of labels: 1 where positives are as many as predicted; None without a positive."""
    positives = sum(observed for *_, observed in bins)
    return sum(predicted for _, _, predicted, _ in bins) / positives if positives else None


def expected_calibration_error(label: Scores, probability: Scores) -> float | None:
    """`calibration_error_of` samples; None without any."""
    return calibration_error_of(calibration_bins(label, probability)) if len(label) else None


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
