"""What the parity gate found of a file: errors by runtime, their bounds, and what is out of them in words.

Errors are relative to the largest magnitude in the tensor, so that entries near zero do not decide:
max |a - b| / max |b|. Weights are bounded so, and the change that training made to them as well, because a small wrong
change hides in a large weight. The bounds are the same for every optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TOLERANCE = 1e-4  # of outputs, losses and weights
CHANGE_TOLERANCE = 1e-2  # of the change of a weight, which rounding of the weight itself already blurs
CHANGE_FLOOR = 1e-4  # of relative errors of changes
_FLOOR = 1e-2  # magnitudes below it count as it: what they have may be nothing but rounding


def relative_error(value: Array, reference: Array, floor: float = _FLOOR) -> float:
    """Return max |value - reference| / max(|reference|, floor).

    Infinite if either is not finite, or their shapes differ.
    """
    if value.shape != reference.shape or not (np.isfinite(value).all() and np.isfinite(reference).all()):
        return float("inf")
    difference = float(np.max(np.abs(value - reference), initial=0.0))
    scale = float(np.max(np.abs(reference), initial=0.0))
    return difference / max(scale, floor)


@dataclass(frozen=True)
class RuntimeParity:
    """How far one runtime is from TensorFlow; all errors relative, 0 is equal.

    Attributes:
        runtime: Its name.
        version: Its version.
        output_error: Largest over ``infer`` and ``embed`` with the file's initial weights; None if it did not run.
        loss_error: Largest over all steps; None if it did not run.
        weight_errors: By weight, after the last step.
        change_errors: By weight: of its value after the last step less its initial value.
        failure: Why the file did not run, or None.
    """

    runtime: str
    version: str
    output_error: float | None
    loss_error: float | None
    weight_errors: Mapping[str, float]
    change_errors: Mapping[str, float]
    failure: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every error is within its bound; one that is not a number is not."""
        return not self.complaints

    @property
    def parted_in_training(self) -> bool:
        """Whether what is out of bounds, if anything is, came up while training, and is finite."""
        errors = (self.output_error, self.loss_error, *self.weight_errors.values())
        known = [error for error in errors if error is not None and math.isfinite(error)]
        return len(known) == len(errors) and known[0] <= TOLERANCE

    @property
    def complaints(self) -> list[str]:
        """What is out of bounds, in words, worst weight first."""
        if self.output_error is None or self.loss_error is None:
            return [f"does not run: {self.failure}"]
        named = {"outputs before training": self.output_error, "loss": self.loss_error}
        named |= {f"weight {name}": error for name, error in self.weight_errors.items()}
        found = [f"{what} differs by {e:.2g}, bound {TOLERANCE:g}" for what, e in _above(named, TOLERANCE)]
        named = {f"change of {name}": error for name, error in self.change_errors.items()}
        return found + [
            f"{what} differs by {e:.2g}, bound {CHANGE_TOLERANCE:g}" for what, e in _above(named, CHANGE_TOLERANCE)
        ]


@dataclass(frozen=True)
class ParityReport:
    """The comparison of one file.

    Attributes:
        steps: Training steps compared.
        losses: TensorFlow's loss of each step.
        runtimes: One entry per installed runtime.
        draws: Draws of batches that were trained on; above 1 where the first parted and the others agreed.
    """

    steps: int
    losses: tuple[float, ...]
    runtimes: tuple[RuntimeParity, ...]
    draws: int = 1

    @property
    def passed(self) -> bool:
        """Whether there is a runtime, and each does what TensorFlow does."""
        return bool(self.runtimes) and all(r.passed for r in self.runtimes)

    @property
    def parted_in_training(self) -> bool:
        """Whether every runtime ran the file and gave finite numbers and the right outputs before training."""
        return bool(self.runtimes) and all(r.parted_in_training for r in self.runtimes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON report."""
        bounds = {"tolerance": TOLERANCE, "change_tolerance": CHANGE_TOLERANCE}
        runtimes = [{**asdict(r), "passed": r.passed} for r in self.runtimes]
        head = {"passed": self.passed, "steps": self.steps, "draws": self.draws, "losses": list(self.losses)}
        return {**head, **bounds, "runtimes": runtimes}


def _above(errors: Mapping[str, float], bound: float) -> list[tuple[str, float]]:
    return sorted(((what, e) for what, e in errors.items() if not e <= bound), key=lambda pair: -pair[1])
