"""What a study's rows come to: every arm and every difference with its interval, users counted once.

A user's seeds are averaged first, then users are resampled: three seeds are no three times as many users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluation.journal import CellFacts
from evaluation.metrics import Bins, add_bins, calibration_error_of, gauc, mean_defined, predicted_to_observed
from evaluation.plan import Cell
from evaluation.scores import DeviceRow, Score
from evaluation.statistics import Interval, Signs, bootstrap_mean, count_signs, paired_difference
from evaluation.study import Study

# By a device's local samples; the last bucket is open.
BUCKETS = (0, 20, 50, 100, 200)
OURS, BASE = "coda", "cloud"

Value = Callable[[Score], "float | None"]


@dataclass(frozen=True)
class ArmFigures:
    """One arm over all users.

    Attributes:
        arm: Its name.
        user_auc: Mean user AUC.
        gauc: The same, weighted by the users' test samples.
        log_loss: Mean of users' log-loss, nats.
        calibration_error: Expected calibration error over all test samples.
        predicted_to_observed: Sum of predictions by sum of labels; 1 is calibrated in the large.
        ndcg_at_10: Mean over users, each user's test samples as one list of candidates.
    """

    arm: str
    user_auc: Interval | None
    gauc: float | None
    log_loss: Interval | None
    calibration_error: float | None
    predicted_to_observed: float | None
    ndcg_at_10: Interval | None


@dataclass(frozen=True)
class Difference:
    """One arm minus another, paired by user.

    Attributes:
        arm: The one.
        against: The other.
        user_auc: Difference of user AUC.
        log_loss: Difference of log-loss, nats; below 0 is better.
        users: Ranked better, the same, and worse.
    """

    arm: str
    against: str
    user_auc: Interval | None
    log_loss: Interval | None
    users: Signs


@dataclass(frozen=True)
class Bucket:
    """CoDA minus the cloud over users with so many local samples; ``below`` is None for the last."""

    samples_from: int
    samples_below: int | None
    users: int
    gain: Interval | None


@dataclass(frozen=True)
class Group:
    """All cells with devices of so many local events.

    Attributes:
        local_events: None where devices keep all.
        users: Distinct users.
        rows: Devices tried: users times seeds, but for what a fold leaves out.
        skipped_users: Mean over cells of users who have nothing to be tested by.
        one_class_users: Users without an AUC in any seed.
        empty_users: Users without a local sample in any seed.
        activated: Share of devices whose gate let the personal model serve.
        classifier_auc: How well the classifier tells matched from local samples, out of fold; mean.
        samples_local: Mean of a device's local samples.
        samples_matched: Mean of its matched samples.
        samples_kept: Mean of what the classifier kept of those.
        arms: In the plan's order.
        differences: CoDA minus each arm, then each other arm minus the cloud.
        buckets: By local samples.
    """

    local_events: int | None
    users: int
    rows: int
    skipped_users: float
    one_class_users: int
    empty_users: int
    activated: float
    classifier_auc: float | None
    samples_local: float
    samples_matched: float
    samples_kept: float
    arms: tuple[ArmFigures, ...]
    differences: tuple[Difference, ...]
    buckets: tuple[Bucket, ...]

    def arm(self, name: str) -> ArmFigures:
        """The figures of one arm."""
        return next(figures for figures in self.arms if figures.arm == name)

    def difference(self, arm: str, against: str) -> Difference | None:
        """One of `differences`, or None."""
        return next((d for d in self.differences if (d.arm, d.against) == (arm, against)), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files."""
        return asdict(self)


def groups_of(study: Study) -> tuple[Group, ...]:
    """One group for each number of local events."""
    return tuple(
        _group(events, {cell: rows for cell, rows in study.rows.items() if cell.local_events == events}, study)
        for events in dict.fromkeys(cell.local_events for cell in study.rows)
    )


class _Users:
    """A group's rows by user, in the order of users."""

    def __init__(self, rows: Iterable[DeviceRow]) -> None:
        found: dict[int, list[DeviceRow]] = {}
        for row in rows:
            found.setdefault(row.user, []).append(row)
        self.rows = [found[user] for user in sorted(found)]

    def values(self, arm: str, value: Value) -> list[float | None]:
        """Each user's mean over seeds."""
        return [mean_defined([value(row.scores[arm]) for row in rows]) for rows in self.rows]

    def samples(self) -> list[float]:
        """Each user's local samples, mean over seeds."""
        return [float(np.mean([row.samples_local for row in rows])) for rows in self.rows]


def _group(events: int | None, cells: Mapping[Cell, tuple[DeviceRow, ...]], study: Study) -> Group:
    rows = [row for found in cells.values() for row in found]
    facts: list[CellFacts] = [study.cells[cell] for cell in cells]
    users, arms = _Users(rows), study.plan.arms
    pairs = [(OURS, arm) for arm in arms if arm != OURS] + [(arm, BASE) for arm in arms if arm not in (OURS, BASE)]
    return Group(
        local_events=events,
        users=len(users.rows),
        rows=len(rows),
        skipped_users=float(np.mean([one.skipped_users for one in facts])),
        one_class_users=sum(value is None for value in users.values(BASE, _auc)),
        empty_users=sum(samples == 0 for samples in users.samples()),
        activated=float(np.mean([row.activated for row in rows])),
        classifier_auc=mean_defined([row.classifier_auc for row in rows]),
        samples_local=float(np.mean([row.samples_local for row in rows])),
        samples_matched=float(np.mean([row.samples_matched for row in rows])),
        samples_kept=float(np.mean([row.samples_kept for row in rows])),
        arms=tuple(_arm(arm, users, rows) for arm in arms),
        differences=tuple(_difference(users, *pair) for pair in pairs),
        buckets=tuple(_buckets(users)),
    )


def _arm(arm: str, users: _Users, rows: list[DeviceRow]) -> ArmFigures:
    aucs = users.values(arm, _auc)
    weights = [float(np.mean([row.samples_test for row in found])) for found in users.rows]
    bins: Bins = add_bins(row.scores[arm].bins for row in rows)
    return ArmFigures(
        arm=arm,
        user_auc=bootstrap_mean(aucs),
        gauc=gauc(aucs, weights),
        log_loss=bootstrap_mean(users.values(arm, _log_loss)),
        calibration_error=calibration_error_of(bins),
        predicted_to_observed=predicted_to_observed(bins),
        ndcg_at_10=bootstrap_mean(users.values(arm, _ndcg)),
    )


def _difference(users: _Users, arm: str, against: str) -> Difference:
    ours, theirs = users.values(arm, _auc), users.values(against, _auc)
    loss = paired_difference(users.values(arm, _log_loss), users.values(against, _log_loss))
    return Difference(arm, against, paired_difference(ours, theirs), loss, count_signs(ours, theirs))


def _buckets(users: _Users) -> Iterable[Bucket]:
    ours, theirs, samples = users.values(OURS, _auc), users.values(BASE, _auc), users.samples()
    for low, high in zip(BUCKETS, (*BUCKETS[1:], None), strict=True):
        inside = [i for i, count in enumerate(samples) if count >= low and (high is None or count < high)]
        if inside:
            gain = paired_difference([ours[i] for i in inside], [theirs[i] for i in inside])
            yield Bucket(low, high, len(inside), gain)


def _auc(score: Score) -> float | None:
    return score.auc


def _log_loss(score: Score) -> float | None:
    return score.log_loss


def _ndcg(score: Score) -> float | None:
    return score.ndcg_at_10
