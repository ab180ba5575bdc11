"""Which rows each gradient step sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rows = NDArray[np.intp]


class Sampler(Protocol):
    """A table of columns, and rows drawn from it.

    Attributes:
        columns: Every feature [n, ...] and ``label`` float32 [n].
    """

    @property
    def columns(self) -> Mapping[str, Array]:
        """Every feature [n, ...] and ``label`` float32 [n]."""
        ...

    def draw(self, steps: int, batch_size: int) -> Rows:
        """Rows of the next ``steps`` batches, [steps, batch_size]."""
        ...


@dataclass(frozen=True)
class Group:
    """Rows that share of each batch is drawn from.

    Attributes:
        rows: Row numbers, at least one.
        share: Part of each batch, above 0.
        weights: Probability of each row up to a factor, drawn with replacement; None goes through all rows in shuffled
            passes, as epochs do.
    """

    rows: Rows
    share: float
    weights: NDArray[np.float32] | None = None


class MixedSampler:
    """Every batch holds each group's share, rounded so that no group is left out."""

    def __init__(self, columns: Mapping[str, Array], groups: Sequence[Group], rng: np.random.Generator) -> None:
        if not groups or any(len(group.rows) == 0 for group in groups):
            raise ValueError("a sampler needs at least one group, each with at least one row")
        self.columns = columns
        self._groups = groups
        self._cumulative = [None if g.weights is None else _cumulative(g.weights) for g in groups]
        self._rng = rng

    def draw(self, steps: int, batch_size: int) -> Rows:
        """Rows of the next ``steps`` batches, intp [steps, batch_size]."""
        counts = _batch_counts([group.share for group in self._groups], batch_size)
        parts = [
            self._draw_group(group, cumulative, steps * count).reshape(steps, count)
            for group, cumulative, count in zip(self._groups, self._cumulative, counts, strict=True)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _draw_group(self, group: Group, cumulative: NDArray[np.float64] | None, count: int) -> Rows:
        if cumulative is None:
            passes = -(-count // len(group.rows))
            shuffled: Rows = self._rng.permuted(np.tile(group.rows, (passes, 1)), axis=1)
            return shuffled.ravel()[:count]
        positions = np.searchsorted(cumulative, self._rng.random(count), side="right")
        return group.rows[positions]


def _cumulative(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    total = np.cumsum(weights, dtype=np.float64)
    if not np.isfinite(total[-1]) or total[-1] <= 0 or weights.min() < 0:
        raise ValueError("a group's weights must be finite, not negative, and not all zero")
    shares: NDArray[np.float64] = total / total[-1]
    return shares


def _batch_counts(shares: Sequence[float], batch_size: int) -> list[int]:
    """Rows of each group in a batch: shares of it, at least one each, the last group taking what is left."""
    total = sum(shares)
    counts: list[int] = []
    for position, share in enumerate(shares[:-1]):
        groups_after = len(shares) - position - 1
        most = batch_size - sum(counts) - groups_after
        counts.append(min(max(round(batch_size * share / total), 1), most))
    return [*counts, batch_size - sum(counts)]
