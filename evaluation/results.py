"""What an evaluation found: one row a device, and over all devices means, differences and signs with intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converters.zoo.names import DEFAULT_RECOMMENDER
from evaluation.metrics import gauc, mean_defined
from evaluation.scores import DeviceRow
from evaluation.statistics import Interval, Signs, bootstrap_mean, count_signs, paired_difference

_COMPARED_WITH = ("cloud", "local", "gentle", "random", "matched")


@dataclass(frozen=True)
class Setting:
    """What was evaluated; the fields are those of `plan.Plan`, of one cell."""

    dataset: str
    synthetic: bool
    labels: str
    protocol: str
    local_events: int | None
    seed: int
    fold: int
    part: str
    recipe: Mapping[str, Any]
    model: str = DEFAULT_RECOMMENDER


@dataclass(frozen=True)
class ArmSummary:
    """One arm over all devices; log-loss is the mean of the devices' means, nats."""

    mean_user_auc: Interval | None
    gauc: float | None
    log_loss: float | None
    ndcg_at_10: float | None


@dataclass(frozen=True)
class Comparison:
    """CoDA against another arm, paired by user."""

    user_auc: Interval | None
    log_loss: Interval | None
    users: Signs


@dataclass(frozen=True)
class ArmsResult:
    """All rows, and what follows from them.

    Attributes:
        setting: What was evaluated.
        rows: One a device.
    """

    setting: Setting
    rows: tuple[DeviceRow, ...]

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that ran."""
        return tuple(self.rows[0].scores) if self.rows else ()

    def aucs(self, arm: str) -> list[float | None]:
        """Each device's AUC under ``arm``."""
        return [row.scores[arm].auc for row in self.rows]

    def summary(self, arm: str) -> ArmSummary:
        """One arm over all devices."""
        scores = [row.scores[arm] for row in self.rows]
        return ArmSummary(
            mean_user_auc=bootstrap_mean(self.aucs(arm)),
            gauc=gauc(self.aucs(arm), [row.samples_test for row in self.rows]),
            log_loss=mean_defined([score.log_loss for score in scores]),
            ndcg_at_10=mean_defined([score.ndcg_at_10 for score in scores]),
        )

    def compare(self, other: str, ours: str = "coda") -> Comparison:
        """``ours`` minus ``other``, paired by user."""
        losses = [[row.scores[arm].log_loss for row in self.rows] for arm in (ours, other)]
        return Comparison(
            user_auc=paired_difference(self.aucs(ours), self.aucs(other)),
            log_loss=paired_difference(losses[0], losses[1]),
            users=count_signs(self.aucs(ours), self.aucs(other)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the setting, a summary by arm, and CoDA's differences; rows apart, see `write`."""
        activated = [row for row in self.rows if row.activated]
        return {
            "setting": asdict(self.setting),
            "devices": len(self.rows),
            "activated": len(activated),
            "samples_kept": mean_defined([float(row.samples_kept) for row in self.rows]),
            "samples_matched": mean_defined([float(row.samples_matched) for row in self.rows]),
            "classifier_auc": mean_defined([row.classifier_auc for row in self.rows]),
            "arms": {arm: asdict(self.summary(arm)) for arm in self.arms},
            "coda_minus": {arm: asdict(self.compare(arm)) for arm in _COMPARED_WITH if arm in self.arms},
        }

    def write(self, folder: Path) -> None:
        """Write ``evaluation.json`` and ``devices.jsonl``, one line a device."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row.to_dict()) + "\n" for row in self.rows)
        (folder / "devices.jsonl").write_text(lines)
        (folder / "evaluation.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n")
