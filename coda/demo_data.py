"""What the demo runs on: real ratings where there are any, divided into a cloud's pool and some devices' samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from coda.errors import UsageError
from evaluation.datasets import load_dataset
from evaluation.download import Progress
from evaluation.errors import DataUnavailableError
from evaluation.interactions import Interactions
from evaluation.metrics import auc
from evaluation.samples import Labels
from evaluation.split import Device, Protocol, Split, split_interactions


@dataclass(frozen=True)
class DemoData:
    """Samples of a demo.

    Attributes:
        interactions: The ratings they come from.
        labels: What the labels mean.
        split: The pool, and all users that the cloud has not seen.
        devices: The chosen few of those, by device name.
    """

    interactions: Interactions
    labels: Labels
    split: Split
    devices: dict[str, Device]


def load_or_generate(name: str, seed: int, progress: Progress | None, warn: Callable[[str], None]) -> Interactions:
    """The dataset of that name; where it cannot be had, synthetic ratings, and a word of warning.

    Raises:
        EvaluationError: If a copy is there and is damaged: that is for its owner to mend, not to be passed over.
    """
    try:
        return load_dataset(name, seed=seed, progress=progress)
    except DataUnavailableError as error:
        if name not in ("ml-latest-small", "ml-100k"):
            raise
        warn(f"{error}. Going on with SYNTHETIC ratings; every output says so")
        return load_dataset("synthetic", seed=seed)


def choose_devices(data: Interactions, labels: Labels, count: int, local_events: int, seed: int) -> DemoData:
    """Draw ``count`` users whom the cloud has not seen, who have ``local_events`` events and whose tests can be scored.

    Raises:
        UsageError: If there are not so many.
    """
    split = split_interactions(data, labels, Protocol.NEW, local_events=local_events, seed=seed)
    full = max(len(device.local) for device in split.devices)  # as many events as were asked for
    fit = [device for device in split.devices if len(device.local) == full and _scorable(device)]
    if len(fit) < count:
        raise UsageError(f"{data.name}: {len(fit)} users are fit to be devices, {count} were asked for")
    chosen = sorted(np.random.default_rng(seed).choice(len(fit), count, replace=False))
    devices = {f"user-{data.user_names[fit[i].user]}": fit[i] for i in chosen}
    return DemoData(data, labels, split, devices)


def _scorable(device: Device) -> bool:
    return auc(device.test.label, np.zeros(len(device.test))) is not None
