"""Fine-tuning h0 on local samples and on matched samples by their keep weights, for a set number of steps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.learning.model import Weights
from edge.learning.sampling import Array, Group, MixedSampler
from edge.learning.trainer import Progress, Trainer
from protocol.recipe import Recipe
from protocol.samples import SampleBatch, concatenate


@dataclass(frozen=True)
class Tuned:
    """A personal model.

    Attributes:
        weights: Its trainable tensors.
        losses: Loss of each batch before its step, float32 [steps].
        augmented: Whether matched samples were drawn.
    """

    weights: Weights = field(repr=False)
    losses: NDArray[np.float32] = field(repr=False)
    augmented: bool


def tune(
    recommender: Trainer,
    local: SampleBatch,
    matched: SampleBatch,
    keep_weights: NDArray[np.float32],
    recipe: Recipe,
    *,
    on_progress: Progress | None = None,
) -> Tuned:
    """Fine-tune from h0 for exactly ``recipe.steps`` batches.

    Each batch holds ``recipe.local_share`` local samples, the rest drawn from the matched by keep weight. Where nothing
    matched is kept, all are local: as many gradient steps, so that both ways compare.

    Args:
        recommender: Reset to h0 first, left with the personal weights.
        local: At least one sample.
        matched: May be empty.
        keep_weights: float32 [m], one a matched sample, 0 or more.
        recipe: Steps, learning rate, proximal pull, local share, interpolation, seed.
        on_progress: Called with steps done and steps in all.
    """
    recommender.reset()
    start = recommender.snapshot()
    augmented = bool((keep_weights > 0).any())
    sampler = _sampler(local, matched, keep_weights, recipe) if augmented else _local_sampler(local, recipe)
    losses = recommender.fit(sampler, recipe.steps, recipe.learning_rate, recipe.proximal, on_progress=on_progress)
    weights = interpolate(start, recommender.snapshot(), recipe.interpolation)
    recommender.restore(weights)
    return Tuned(weights, losses, augmented)


def tune_twice(
    recommender: Trainer,
    locals_: tuple[SampleBatch, SampleBatch],
    matched: SampleBatch,
    keep_weights: NDArray[np.float32],
    recipe: Recipe,
    *,
    on_progress: Progress | None = None,
) -> tuple[Tuned, Tuned]:
    """`tune` for the gate and for serving, each from h0.

    Judging needs a hold-out, serving needs every sample: of 5 positives the latest is the dearest. The gate's verdict
    on the first model stands for the second, which differs in having seen more of the same.

    Args:
        recommender: As for `tune`.
        locals_: Local samples without the hold-out, and all of them.
        matched: As for `tune`.
        keep_weights: As for `tune`.
        recipe: As for `tune`.
        on_progress: Called with steps done and steps of both.
    """
    trial, final = (
        tune(recommender, local, matched, keep_weights, recipe, on_progress=_shifted(on_progress, run * recipe.steps))
        for run, local in enumerate(locals_)
    )
    return trial, final


def _shifted(on_progress: Progress | None, before: int) -> Progress | None:
    return None if on_progress is None else lambda done, total: on_progress(before + done, 2 * total)


def interpolate(start: Weights, end: Weights, share: float) -> Weights:
    """Weights ``share`` of the way from ``start`` to ``end`` (Wortsman et al., 2022)."""
    return {name: value + np.float32(share) * (end[name] - value) for name, value in start.items()}


def _sampler(
    local: SampleBatch, matched: SampleBatch, keep_weights: NDArray[np.float32], recipe: Recipe
) -> MixedSampler:
    own = Group(np.arange(len(local)), recipe.local_share)
    kept = Group(np.arange(len(local), len(local) + len(matched)), 1 - recipe.local_share, keep_weights)
    both = concatenate([local, matched])
    return MixedSampler(_columns(both), [own, kept], np.random.default_rng(recipe.seed))


def _local_sampler(local: SampleBatch, recipe: Recipe) -> MixedSampler:
    return MixedSampler(_columns(local), [Group(np.arange(len(local)), 1.0)], np.random.default_rng(recipe.seed))


def _columns(batch: SampleBatch) -> dict[str, Array]:
    return {**batch.features, "label": batch.label}
