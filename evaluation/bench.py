"""One device's models and samples, on which arms are tried: the moves that arms share, all by the edge's own code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge.learning.classifier import classify
from edge.learning.personalise import Outcome, Weigh, personalise, too_few
from edge.learning.recommender import Personal, Prepared, Recommender
from edge.learning.trainer import Trainer
from edge.learning.tuning import tune
from evaluation.errors import PlanError
from evaluation.neighbours import Neighbours
from protocol.recipe import Recipe
from protocol.samples import SampleBatch, concatenate, empty_batch

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """What there is for one device.

    Attributes:
        user: Its number in the dataset.
        local: Its own samples.
        matched: What the cloud's matcher found for it.
        nearest: The quarter of them that the matcher ranks first.
        random: As many samples, drawn from the pool at random.
        agreed: What the cloud found by the device's opinions; none where no arm needs them.
        test: What every arm is judged by.
    """

    user: int
    local: SampleBatch
    matched: SampleBatch
    nearest: SampleBatch
    random: SampleBatch
    agreed: SampleBatch
    test: SampleBatch


@dataclass(frozen=True)
class Served:
    """What a device's round came to.

    Attributes:
        outcome: Of the round.
        tuned: The tuned model, whatever the gate said; None where there were too few samples.
    """

    outcome: Outcome
    tuned: Personal | None

    @property
    def personal(self) -> Personal | None:
        """What is served; None for h0."""
        return self.tuned if self.outcome.weights is not None else None


class Bench:
    """One device at a time.

    Attributes:
        recommender: h0.
        frozen: h0 in a file whose embeddings do not train; None where no arm wants it.
        classifier: g.
        recipe: Of every arm.
        neighbours: The pool by user.
    """

    def __init__(
        self,
        recommender: Recommender,
        frozen: Recommender | None,
        classifier: Trainer,
        neighbours: Neighbours,
        recipe: Recipe,
    ) -> None:
        self.recommender = recommender
        self.frozen = frozen
        self.classifier = classifier
        self.neighbours = neighbours
        self.recipe = recipe
        self._coda: tuple[Material, Served] | None = None

    @cached_property
    def over_frozen(self) -> Bench:
        """A bench whose arms tune the file with frozen embeddings.

        Raises:
            PlanError: If the world was built without that file.
        """
        if self.frozen is None:
            raise PlanError("this world was built for arms that tune no frozen embeddings: build it with frozen=True")
        return Bench(self.frozen, self.frozen, self.classifier, self.neighbours, self.recipe)

    def h0(self, material: Material) -> Logits:
        """h0's logits of the test."""
        return self.recommender.logits(material.test)

    def tuned(self, material: Material, others: SampleBatch, recipe: Recipe) -> Logits:
        """Logits of h0 tuned on local samples and on ``others``, all alike; h0's where local samples are too few."""
        return self.recommender.logits(material.test, tune_on(self.recommender, material.local, others, recipe))

    def served(
        self,
        material: Material,
        others: SampleBatch,
        recipe: Recipe,
        weigh: Weigh = classify,
    ) -> Served:
        """The device's round with ``others`` for matched samples."""
        ready = self.recommender.prepare(material.local, others)
        outcome = personalise(ready.trainer, self.classifier, ready.local, ready.matched, recipe, weigh=weigh)
        return Served(outcome, None if outcome.tuned is None else ready.personal(outcome.tuned.weights))

    def coda(self, material: Material) -> Served:
        """The device's round as it is in production; kept for the arms that differ only in what is done with it."""
        if self._coda is None or self._coda[0] is not material:
            self._coda = material, self.served(material, material.matched, self.recipe)
        return self._coda[1]


def tune_on(recommender: Recommender, local: SampleBatch, others: SampleBatch, recipe: Recipe) -> Personal | None:
    """h0 tuned on local samples and on ``others``, all alike; None where local samples are too few."""
    if too_few(local, recipe):
        return None
    ready = recommender.prepare(local, others)
    alike = np.ones(len(ready.matched), np.float32)
    return ready.personal(tune(ready.trainer, ready.local, ready.matched, alike, recipe).weights)


def local_only(recommender: Recommender, local: SampleBatch, recipe: Recipe) -> Personal | None:
    """The plain local model that CoDA has to beat: as many steps on local samples alone, with nothing held back."""
    return tune_on(recommender, local, empty_batch(local.schema), replace(recipe, interpolation=1.0))


def prepared_within_slots(recommender: Recommender, local: SampleBatch, groups: list[SampleBatch]) -> Prepared:
    """Local samples and the first of ``groups`` that the model has slots for, whole, joined in their order."""
    count = len(groups)
    while True:
        others = concatenate(groups[:count]) if count else empty_batch(local.schema)
        ready = recommender.prepare(local, others)
        if ready.dropped == 0:
            return ready
        count //= 2
