"""The computation flow: what a device is asked to do in a round. The one home of every hyper-parameter's default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from protocol.errors import MalformedMessageError
from protocol.fleet_gain import FleetGain, fleet_gains_from
from protocol.opinions import MAX_OPINIONS

_LARGEST = (1 << 63) - 1  # of a whole number in a message
_LATER = frozenset({"fleet_gains", "opinions"})


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one round; the evidence for the defaults is in docs/evaluation-notes.md.

    Attributes:
        min_local_samples: With fewer, the device serves h0 and says why.
        holdout_share: Latest share of the local samples that only the gate sees.
        match_samples: Samples asked of the cloud (K).
        match_bytes: Bound on the encoded matched samples.
        profile_centroids: Centroids in the matching query.
        classifier_steps: Gradient steps of the sample classifier, each fold.
        classifier_learning_rate: Its step size.
        classifier_folds: Cross-fitting: a matched sample is scored by a classifier that did not train on it.
        keep_rule: ``soft`` weighs each matched sample, ``hard`` keeps those above the device's own threshold.
        keep_weight_clip: Upper bound of a soft keep weight g / (1 - g).
        steps: Gradient steps of the fine-tuning, whatever the arm.
        learning_rate: Step size of the fine-tuning (SGD).
        proximal: Pull toward h0's weights (L2-SP).
        local_share: Share of each fine-tuning batch drawn from local samples; the rest is drawn from kept ones.
        interpolation: How far to go from h0's weights to the tuned ones, above 0 to 1; less than 1 ranks and calibrates
            better than either end.
        gate_min_gain: Hold-out log-loss must fall by more than this for the personal model to be served.
        gate_standard_errors: Less so many standard errors of that fall: a hold-out of a few samples is mostly noise,
            and tuning helps most devices, so only a hold-out that clearly speaks against it keeps h0.
        opinions: Of so many items, the latest, a device whose owner allows it says in its query whether it liked them,
            see `protocol.opinions`; 0 asks nobody.
        seed: Seeds every random choice of the round.
        fleet_min_gain: What a device must expect to gain in ranking loss, nats, after others were heard. A little
            below 0: a model that ranks better may lose some by being surer of itself.
        fleet_gains: What the round gained on other devices, see `protocol.fleet_gain`. Learnt by the cloud, not chosen;
            empty until enough devices have reported.
    """

    min_local_samples: int = 20
    holdout_share: float = 0.2
    match_samples: int = 4000
    match_bytes: int = 512 << 10
    profile_centroids: int = 8
    classifier_steps: int = 200
    classifier_learning_rate: float = 0.1
    classifier_folds: int = 2
    keep_rule: str = "soft"
    keep_weight_clip: float = 3.0
    steps: int = 100
    learning_rate: float = 0.05
    proximal: float = 0.0
    local_share: float = 0.2
    interpolation: float = 0.7
    gate_min_gain: float = 0.0
    gate_standard_errors: float = 2.0
    opinions: int = 0
    seed: int = 1
    fleet_min_gain: float = -0.005
    fleet_gains: tuple[FleetGain, ...] = ()

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise MalformedMessageError(f"recipe: {name} must be finite, got {value}")
        for name in ("holdout_share", "local_share"):
            if not 0 < getattr(self, name) < 1:
                raise MalformedMessageError(f"recipe: {name} must lie between 0 and 1, got {getattr(self, name)}")
        for name in ("min_local_samples", "match_samples", "match_bytes", "profile_centroids", "steps"):
            if getattr(self, name) < 1:
                raise MalformedMessageError(f"recipe: {name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.interpolation <= 1 or self.gate_standard_errors < 0:
            raise MalformedMessageError(
                f"recipe: interpolation must lie above 0 and up to 1, gate_standard_errors not below 0, "
                f"got {self.interpolation} and {self.gate_standard_errors}"
            )
        if not 0 <= self.opinions <= MAX_OPINIONS:
            raise MalformedMessageError(f"recipe: opinions must lie in 0..{MAX_OPINIONS}, got {self.opinions}")
        if self.keep_rule not in ("soft", "hard"):
            raise MalformedMessageError(f"recipe: keep_rule must be soft or hard, got {self.keep_rule!r}")
        if self.classifier_folds < 2:
            raise MalformedMessageError(f"recipe: classifier_folds must be at least 2, got {self.classifier_folds}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for messages and files, less what came later and says nothing: earlier devices understand."""
        values = asdict(self)
        values["fleet_gains"] = list(values["fleet_gains"])
        return {name: value for name, value in values.items() if value or name not in _LATER}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Inverse of `to_dict`; a field that is absent takes its default.

        Raises:
            MalformedMessageError: If a field is unknown, of another type, or out of bounds.
        """
        types = get_type_hints(cls)
        unknown = sorted(set(values) - set(types))
        if unknown:
            raise MalformedMessageError(f"recipe: unknown fields {unknown}")
        checked: dict[str, Any] = {}
        for name, value in values.items():
            if name == "fleet_gains":
                checked[name] = fleet_gains_from(value)
                continue
            wanted = types[name]
            if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else wanted):
                raise MalformedMessageError(f"recipe: {name} must be {wanted.__name__}, got {value!r}")
            if isinstance(value, int) and abs(value) > _LARGEST:
                raise MalformedMessageError(f"recipe: {name} must be at most {_LARGEST:,}")
            checked[name] = wanted(value)
        return cls(**checked)
