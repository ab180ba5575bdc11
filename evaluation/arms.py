"""The ways to serve one device that are compared, over the edge's own code and at equal gradient steps.

    cloud      h0 as it is
    local      h0 fine-tuned on all local samples
    gentle     the same, then drawn toward h0 as CoDA is: what shrinkage alone gives
    random     on local samples and random ones of the pool
    matched    on local samples and matched ones, unfiltered
    coda       the device's round: classifier, keep weights, fine-tuning, gate; h0 where the gate says so

Nothing here imports TensorFlow, so a worker process stays as small as a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.personalise import personalise, too_few
from edge.recommender import Recommender, latest_that_fit
from edge.trainer import Trainer
from edge.tuning import tune
from evaluation.scores import DeviceRow, Score
from protocol.recipe import Recipe
from protocol.samples import SampleBatch, empty_batch

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """What there is for one device.

    Attributes:
        local: Its own samples.
        matched: What the cloud's matcher found for it.
        random: As many samples, drawn from the pool at random.
        test: What every arm is judged by.
    """

    local: SampleBatch
    matched: SampleBatch
    random: SampleBatch
    test: SampleBatch


class Bench:
    """One device's models, on which every arm is tried in turn."""

    def __init__(self, recommender: Recommender, classifier: Trainer, recipe: Recipe) -> None:
        self.recommender = recommender
        self.classifier = classifier
        self.recipe = recipe

    def run(self, user: int, material: Material, arms: Sequence[str], bytes_matched: int = 0) -> DeviceRow:
        """Try ``arms`` on one device.

        Args:
            user: Its number.
            material: Its samples.
            arms: Keys of `ARMS`; ``coda`` is run in any case.
            bytes_matched: For the record.
        """
        material = replace(material, local=latest_that_fit(material.local, self.recommender.table))
        others = [arm for arm in arms if arm != "coda"]
        logits = {arm: ARMS[arm](self, material) for arm in others}
        ready = self.recommender.prepare(material.local, material.matched)
        outcome = personalise(ready.trainer, self.classifier, ready.local, ready.matched, self.recipe)
        personal = None if outcome.weights is None else ready.personal(outcome.weights)
        logits["coda"] = self.recommender.logits(material.test, personal)
        found = outcome.classification
        return DeviceRow(
            user=user,
            samples_local=len(material.local),
            samples_test=len(material.test),
            samples_matched=len(material.matched),
            samples_kept=outcome.samples_kept,
            bytes_matched=bytes_matched,
            activated=outcome.decision.activate,
            gate=outcome.decision.reason,
            classifier_auc=None if found is None else found.heldout_auc,
            scores={arm: Score.of(material.test.label, values) for arm, values in logits.items()},
        )


def _cloud(bench: Bench, material: Material) -> Logits:
    return bench.recommender.logits(material.test)


def _local(bench: Bench, material: Material) -> Logits:
    return _tuned(bench, material, empty_batch(material.local.schema))


def _gentle(bench: Bench, material: Material) -> Logits:
    return _tuned(bench, material, empty_batch(material.local.schema), bench.recipe.interpolation)


def _random(bench: Bench, material: Material) -> Logits:
    return _tuned(bench, material, material.random)


def _matched(bench: Bench, material: Material) -> Logits:
    return _tuned(bench, material, material.matched)


def _tuned(bench: Bench, material: Material, others: SampleBatch, interpolation: float = 1.0) -> Logits:
    if too_few(material.local, bench.recipe):
        return _cloud(bench, material)
    recipe = replace(bench.recipe, interpolation=interpolation)
    ready = bench.recommender.prepare(material.local, others)
    alike = np.ones(len(ready.matched), np.float32)
    tuned = tune(ready.trainer, ready.local, ready.matched, alike, recipe)
    return bench.recommender.logits(material.test, ready.personal(tuned.weights))


ARMS: Mapping[str, Callable[[Bench, Material], Logits]] = {
    "cloud": _cloud,
    "local": _local,
    "gentle": _gentle,
    "random": _random,
    "matched": _matched,
}
