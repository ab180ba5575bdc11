"""What an evaluation keeps of one device: every arm's scores, small enough for a line of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from evaluation.metrics import Bins, Scores, auc, calibration_bins, log_loss, ndcg, sigmoid
from protocol.fleet_gain import ReportedGain


@dataclass(frozen=True)
class Score:
    """One arm on one device; a value is None where it is not defined.

    Attributes:
        auc: Area under the ROC curve; None where the test samples have one label.
        log_loss: Mean cross-entropy, nats.
        ndcg_at_10: Of the test samples as one list.
        bins: For calibration over devices.
    """

    auc: float | None
    log_loss: float | None
    ndcg_at_10: float | None
    bins: Bins = ()

    @classmethod
    def of(cls, label: Scores, logit: Scores) -> Score:
        """Score the logits, [n], of samples with these labels, [n]."""
        bins = calibration_bins(label, sigmoid(logit))
        return cls(auc(label, logit), log_loss(label, logit), ndcg(label, logit), bins)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Score:
        """From plain values."""
        return cls(**{**values, "bins": tuple(tuple(entry) for entry in values.get("bins", ()))})


@dataclass(frozen=True)
class DeviceRow:
    """All arms on one device.

    Attributes:
        user: Its number in the dataset.
        samples_local: Local samples.
        samples_test: Test samples.
        samples_matched: Matched samples.
        samples_kept: Effective number of matched samples that the classifier kept.
        bytes_matched: Encoded size of the matched samples.
        activated: Whether the gate chose the personal model.
        gate: The gate's words.
        classifier_auc: How well the classifier tells local from matched samples, out of fold.
        scores: By arm.
        gain: What the device would report of its round; None where there was none, or nothing could be held out.
        personal: Score of its tuned model, whatever the gate said; None where there is none.
    """

    user: int
    samples_local: int
    samples_test: int
    samples_matched: int
    samples_kept: int
    bytes_matched: int
    activated: bool
    gate: str
    classifier_auc: float | None
    scores: Mapping[str, Score]
    gain: ReportedGain | None = None
    personal: Score | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a line of a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeviceRow:
        """Inverse of `to_dict`."""
        scores = {arm: Score.from_dict(score) for arm, score in values["scores"].items()}
        gain, personal = values.get("gain"), values.get("personal")
        return cls(
            **{
                **values,
                "scores": scores,
                "gain": None if gain is None else ReportedGain(**gain),
                "personal": None if personal is None else Score.from_dict(personal),
            }
        )

    def joined(self, later: DeviceRow) -> DeviceRow:
        """The same device with the arms of both rows; of an arm in both, and of all else, what is ``later``."""
        return replace(later, scores={**self.scores, **later.scores})
