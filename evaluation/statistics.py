"""Is a difference more than chance? Paired bootstrap over users, seeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
_BLOCK = 250


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% bootstrap interval over ``users`` users."""

    mean: float
    low: float
    high: float
    users: int

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files."""
        return asdict(self)


@dataclass(frozen=True)
class Signs:
    """How many users a model serves better, equally well, and worse than another."""

    up: int
    same: int
    down: int


def bootstrap_mean(
    values: Sequence[float | None], *, seed: int = 1, resamples: int = RESAMPLES, confidence: float = 0.95
) -> Interval | None:
    """Mean over the users whose value is defined, with a percentile interval; None if none is."""
    defined = np.array([value for value in values if value is not None], np.float64)
    if len(defined) == 0:
        return None
    means = _resampled_means(defined, np.random.default_rng(seed), resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(defined.mean()), float(low), float(high), len(defined))


def paired_difference(
    ours: Sequence[float | None], theirs: Sequence[float | None], *, seed: int = 1, resamples: int = RESAMPLES
) -> Interval | None:
    """Mean of ours minus theirs over users where both are defined; users are resampled, each with both its values."""
    return bootstrap_mean(_differences(ours, theirs), seed=seed, resamples=resamples)


def count_signs(ours: Sequence[float | None], theirs: Sequence[float | None], *, tolerance: float = 1e-9) -> Signs:
    """Users up, same and down, over users where both values are defined."""
    gaps = np.array([gap for gap in _differences(ours, theirs) if gap is not None])
    up, down = int((gaps > tolerance).sum()), int((gaps < -tolerance).sum())
    return Signs(up, len(gaps) - up - down, down)


def _differences(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    pairs = zip(ours, theirs, strict=True)
    return [None if a is None or b is None else a - b for a, b in pairs]


def _resampled_means(values: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    blocks = [min(_BLOCK, resamples - done) for done in range(0, resamples, _BLOCK)]  # bounds the memory
    return np.concatenate([values[rng.integers(0, len(values), (n, len(values)))].mean(axis=1) for n in blocks])
