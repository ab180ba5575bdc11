"""Guards against poisoning: what of a device's contribution looks so odd that it is kept apart until somebody looks.

They compare with the rest of the pool, so they hold off a device that floods, flips labels, pushes one item or makes
items up. They do not hold off many devices that each stay within the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_broker.pool.options import PoolOptions
from protocol.samples import SampleBatch

DAY_S = 86_400.0


@dataclass(frozen=True)
class Standing:
    """What the pool knows when a contribution comes.

    Attributes:
        now_s: The cloud's clock, unix seconds.
        given_last_day: Samples that this contributor gave in the last 24 hours.
        earlier_labels: float32 [m], of what it has in the pool.
        pool_samples: How many samples others are compared with.
        pool_label_rate: Share of likes among them.
        items: int32 [n], the item of each sample that comes; before them its latest in the pool, where those are too
            few to be judged by themselves.
        sharers: int32 [n], how many others have that item.
    """

    now_s: float
    given_last_day: int
    earlier_labels: NDArray[np.float32]
    pool_samples: int
    pool_label_rate: float
    items: NDArray[np.int32]
    sharers: NDArray[np.int32]


def suspicion(batch: SampleBatch, standing: Standing, options: PoolOptions) -> str | None:
    """Why a contribution is to be quarantined; None if it is not."""
    if standing.given_last_day + len(batch) > options.max_samples_per_day:
        given = standing.given_last_day + len(batch)
        return f"rate: {given} samples in a day, {options.max_samples_per_day} are allowed"
    ahead_days = (float(batch.time_s.max(initial=0)) - standing.now_s) / DAY_S
    if ahead_days > options.future_days:
        return f"outlier: a sample is {ahead_days:.1f} days ahead of the clock"
    return _label_suspicion(batch, standing, options) or _item_suspicion(standing, options)


def _label_suspicion(batch: SampleBatch, standing: Standing, options: PoolOptions) -> str | None:
    # With what it gave before, so that nothing is gained by giving it in small pieces.
    labels = np.concatenate([standing.earlier_labels, batch.label])
    if len(labels) < options.judged_from_samples or standing.pool_samples < options.judging_from_samples:
        return None
    rate = float(labels.mean())
    if abs(rate - standing.pool_label_rate) <= options.label_rate_tolerance:
        return None
    return f"label rate: {rate:.2f} of its samples are likes, in the pool {standing.pool_label_rate:.2f}"


def _item_suspicion(standing: Standing, options: PoolOptions) -> str | None:
    if len(standing.items) < options.judged_from_samples or standing.pool_samples < options.judging_from_samples:
        return None
    unknown = float((standing.sharers == 0).mean())
    if unknown > options.unknown_item_share:
        return f"outlier: {unknown:.2f} of the samples are of items that nobody else has"
    items, counts = np.unique(standing.items, return_counts=True)
    one = float(counts.max()) / len(standing.items)
    if one > options.one_item_share:
        return f"outlier: {one:.2f} of the samples are of item {items[counts.argmax()]}"
    return None
