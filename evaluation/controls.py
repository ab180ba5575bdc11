"""Controls: worlds whose truth is known, tried with the device's own code, and what each promises.

    positive     Two clusters of users with opposite tastes, and histories left empty, so that h0 cannot know which
                 cluster a user is of. A model trained on the right cluster alone is the ceiling. CoDA has to come
                 near it, tuning on the device's 20 samples alone must not, and the classifier has to tell the
                 clusters apart.
    negative     All users alike: nothing to gain, and nothing may be lost.
    poisoned     A share of the pool has the opposite label, before h0 is trained on it and while it is matched.
    label shift  Devices have lost two of three of their positives: their samples misstate how often they like.

The positive control has a recipe of its own, `POSITIVE_RECIPE`: what it has to learn is far from h0, which the default
recipe, made to change little, does not reach in its few small steps. All others run the defaults.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.models.training import predict
from edge.learning.classifier import classify
from edge.learning.runtime import open_model
from edge.learning.trainer import Trainer
from evaluation.arms import tunes_frozen
from evaluation.building import build_world
from evaluation.fleet import after_fleet
from evaluation.h0 import train_h0
from evaluation.metrics import auc
from evaluation.pool_files import CLASSIFIER_FILE, open_recommender
from evaluation.runner import run_devices
from evaluation.samples import Labels
from evaluation.split import Device, Protocol, Split, split_interactions
from evaluation.statistics import Interval, bootstrap_mean, paired_difference
from evaluation.synthetic import Synthetic, generate_homogeneous, generate_synthetic
from evaluation.world import Progress, World
from protocol.recipe import Recipe
from protocol.samples import SampleBatch

POSITIVE_RECIPE = Recipe(steps=800, learning_rate=1.0, interpolation=1.0)
HISTORIES = ("liked", "disliked")
_ARMS = ("cloud", "local", "random", "matched", "coda")
_LABELS = Labels.EXPLICIT
_POSITIVES_KEPT = 3  # under label shift, one in so many


@dataclass(frozen=True)
class Promise:
    """What a control has to show.

    Attributes:
        text: In words.
        figure: What was found.
        held: Whether it is so.
    """

    text: str
    figure: str
    held: bool


@dataclass(frozen=True)
class ControlResult:
    """What a control showed.

    Attributes:
        name: Which.
        devices: How many.
        mean_auc: Mean user AUC by arm.
        over_cloud: CoDA minus cloud, paired by user.
        promises: What it has to show, and whether it does.
    """

    name: str
    devices: int
    mean_auc: Mapping[str, float]
    over_cloud: Interval
    promises: tuple[Promise, ...]


@dataclass(frozen=True)
class ControlOptions:
    """How a control is run.

    Attributes:
        users: Generated users; 35% of them are devices, the others the pool. None takes the control's own number.
        max_devices: At most so many devices; None takes all.
        seed: Of everything.
        workers: Processes; None takes one per CPU.
        progress: Told what goes on.
    """

    users: int | None = None
    max_devices: int | None = None
    seed: int = 1
    workers: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class _Tried:
    """AUCs of devices by arm."""

    split: Split
    world: World
    devices: Sequence[Device]
    aucs: Mapping[str, Sequence[float | None]]

    def over(self, arm: str) -> Interval:
        """CoDA minus ``arm``."""
        gain = paired_difference(self.aucs["coda"], self.aucs[arm])
        assert gain is not None, "no device has test samples of both labels"
        return gain

    def means(self) -> dict[str, float]:
        """By arm, over devices whose AUC is defined."""
        return {arm: mean.mean for arm, values in self.aucs.items() if (mean := bootstrap_mean(values)) is not None}


def positive_control(options: ControlOptions = ControlOptions()) -> ControlResult:
    """Opposite tastes that no history shows; see the module."""
    seed = options.seed
    truth = generate_synthetic(
        users=options.users or 300, items=400, clusters=2, topics=8, conflict=1.5, noise=0.4, seed=seed
    )
    recipe = replace(POSITIVE_RECIPE, seed=seed)
    with tempfile.TemporaryDirectory(prefix="coda-control-") as folder:
        tried = _try(_without_histories(_split(truth, seed)), Path(folder), recipe, options)
        ceiling = bootstrap_mean(_oracle(truth, tried, seed))
        told_apart = bootstrap_mean(_cluster_aucs(truth, tried, recipe))
    assert ceiling is not None, "no device has test samples of both labels"
    means = {**tried.means(), "oracle": ceiling.mean}
    coda, local = ((means[arm] - means["cloud"]) / (means["oracle"] - means["cloud"]) for arm in ("coda", "local"))
    apart = 0.0 if told_apart is None else told_apart.mean
    promises = (
        Promise("CoDA closes at least 70% of the gap from cloud to oracle", f"{coda:.0%}", coda >= 0.7),
        Promise("local alone closes at most 40% of it", f"{local:.0%}", local <= 0.4),
        Promise("the classifier tells the clusters apart at AUC 0.9 or more", f"{apart:.3f}", apart >= 0.9),
    )
    return ControlResult("positive", len(tried.devices), means, tried.over("cloud"), promises)


def negative_control(options: ControlOptions = ControlOptions()) -> ControlResult:
    """Users who are all alike; see the module."""
    truth = generate_homogeneous(users=options.users or 900, items=400, seed=options.seed)
    tried = _try_defaults(_split(truth, options.seed), options)
    gain = tried.over("cloud")
    inside = max(abs(gain.low), abs(gain.high)) <= 0.002
    promise = Promise("the 95% interval of CoDA minus cloud lies within +-0.002", str(gain), inside)
    return ControlResult("negative", len(tried.devices), tried.means(), gain, (promise,))


def poisoned_control(share: float, options: ControlOptions = ControlOptions()) -> ControlResult:
    """``share`` of the pool has the opposite label; see the module."""
    split = _conflicting(options)
    flipped = np.random.default_rng([options.seed, 0xBAD]).random(len(split.pool)) < share
    label = np.where(flipped, 1 - split.pool.label, split.pool.label).astype(np.float32)
    return _harmless(f"poisoned {share:.0%}", replace(split, pool=replace(split.pool, label=label)), options)


def label_shift_control(options: ControlOptions = ControlOptions()) -> ControlResult:
    """Devices that lost most of their positives; see the module."""
    # Of so many events enough are left to personalise with.
    split = _conflicting(options, local_events=60)
    return _harmless("label shift", _map_devices(split, local=_lose_positives), options)


CONTROLS: Mapping[str, Callable[[ControlOptions], ControlResult]] = {
    "positive": positive_control,
    "negative": negative_control,
    "poisoned-5": partial(poisoned_control, 0.05),
    "poisoned-20": partial(poisoned_control, 0.2),
    "label-shift": label_shift_control,
}
"""Every control by the name that a command gives it."""


def _conflicting(options: ControlOptions, local_events: int = 20) -> Split:
    truth = generate_synthetic(users=options.users or 600, items=400, seed=options.seed)
    return _split(truth, options.seed, local_events)


def _harmless(name: str, split: Split, options: ControlOptions) -> ControlResult:
    tried = _try_defaults(split, options)
    gain = tried.over("cloud")
    promise = Promise("CoDA is not below the cloud by more than 0.002", f"{gain.mean:+.4f}", gain.mean >= -0.002)
    return ControlResult(name, len(tried.devices), tried.means(), gain, (promise,))


def _split(truth: Synthetic, seed: int, local_events: int = 20) -> Split:
    return split_interactions(truth.interactions, _LABELS, Protocol.NEW, local_events=local_events, seed=seed)


def _try_defaults(split: Split, options: ControlOptions) -> _Tried:
    with tempfile.TemporaryDirectory(prefix="coda-control-") as folder:
        return _try(split, Path(folder), Recipe(seed=options.seed), options)


def _try(split: Split, folder: Path, recipe: Recipe, options: ControlOptions) -> _Tried:
    world = build_world(
        split, folder, labels=_LABELS, seed=options.seed, frozen=tunes_frozen(_ARMS), progress=options.progress
    )
    devices = split.devices[: options.max_devices]
    played = run_devices(world, devices, recipe, _ARMS, workers=options.workers, progress=options.progress)
    rows = after_fleet(played, recipe)
    return _Tried(split, world, devices, {arm: [row.scores[arm].auc for row in rows] for arm in _ARMS})


def _oracle(truth: Synthetic, tried: _Tried, seed: int) -> list[float | None]:
    """AUCs of a global model that was trained on the pool samples of the device's own cluster."""
    split, models = tried.split, {}
    for cluster in np.unique(truth.cluster):
        own = truth.cluster[split.pool_owner] == cluster
        part = replace(split, pool=split.pool.take(own), pool_owner=split.pool_owner[own])
        models[int(cluster)] = train_h0(part, _LABELS, seed=seed)
    return [auc(d.test.label, predict(models[int(truth.cluster[d.user])], d.test)) for d in tried.devices]


def _cluster_aucs(truth: Synthetic, tried: _Tried, recipe: Recipe) -> list[float | None]:
    """How well the classifier's scores tell matched samples of the device's cluster from others', by device."""
    folder, split = tried.world.folder, tried.split
    recommender, classifier = open_recommender(folder), Trainer(open_model(folder / CLASSIFIER_FILE))
    found: list[float | None] = []
    for device in tried.devices:
        rows = tried.world.find(device, recipe).matched
        ready = recommender.prepare(device.local, split.pool.take(rows))
        scores = classify(ready.trainer, classifier, ready.local, ready.matched, recipe).scores
        same = truth.cluster[split.pool_owner[rows]] == truth.cluster[device.user]
        found.append(auc(same.astype(np.float32), scores) if len(scores) == len(rows) else None)
    return found


def _without_histories(split: Split) -> Split:
    def emptied(batch: SampleBatch) -> SampleBatch:
        empty = {name: np.zeros_like(batch.features[name]) for name in HISTORIES}
        return replace(batch, features={**batch.features, **empty})

    return replace(_map_devices(split, local=emptied, test=emptied), pool=emptied(split.pool))


def _lose_positives(batch: SampleBatch) -> SampleBatch:
    positive: NDArray[np.bool_] = batch.label > 0.5
    return batch.take(~positive | (np.cumsum(positive) % _POSITIVES_KEPT == 1))


Change = Callable[[SampleBatch], SampleBatch]


def _map_devices(split: Split, local: Change, test: Change = lambda batch: batch) -> Split:
    return replace(split, devices=tuple(Device(d.user, local(d.local), test(d.test)) for d in split.devices))
