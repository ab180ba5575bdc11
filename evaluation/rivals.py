"""Other people's ways to personalise, over the edge's trainer and with as many gradient steps as every arm takes.

MPDA (Yan et al., KDD 2022): matched users' data one user after another, a user kept if the AUC on the local samples
rises. FedAvg (McMahan et al., 2017) with local tuning: the device and its matched users train apart, their weights are
averaged, the device goes on. Label correction (Yan et al., 2022): a device's rate of positives differs from the
pool's, and tuning on it moves scores up or down instead of ordering them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge.learning.metrics import auc
from edge.learning.model import Weights
from edge.learning.personalise import too_few
from edge.learning.recommender import Prepared
from edge.learning.sampling import Group, MixedSampler
from edge.learning.trainer import Trainer
from evaluation.bench import Bench, Logits, Material, prepared_within_slots
from protocol.recipe import Recipe
from protocol.samples import SampleBatch

# Devices that average their weights; each takes half of an arm's steps, so more would make this arm the slowest by far.
COHORT = 8
_Rows = NDArray[np.intp]


def mpda(bench: Bench, material: Material) -> Logits:
    """One epoch on each matched user, taken back unless the local AUC rises; then one epoch on local samples."""
    return _users_in_turn(bench, material, select=True)


def mpda_match(bench: Bench, material: Material) -> Logits:
    """The same users without the selection: MPDA's own ablation."""
    return _users_in_turn(bench, material, select=False)


def fedavg(bench: Bench, material: Material) -> Logits:
    """One round of FedAvg with the `COHORT` closest users, half of the steps each, then local tuning for the rest."""
    return fedavg_with(bench, material, COHORT)


def fedavg_with(bench: Bench, material: Material, cohort: int) -> Logits:
    """`fedavg` over so many devices, this one among them; of one it is local tuning."""
    if too_few(material.local, bench.recipe):
        return bench.h0(material)
    users = bench.neighbours.rank(material.local, material.user)[: cohort - 1]
    groups = [bench.neighbours.samples(int(user)) for user in users]
    ready = prepared_within_slots(bench.recommender, material.local, groups)
    table = _Table(ready, groups, bench.recipe)
    rounds = max(1, bench.recipe.steps // 2)
    weights, sizes = [], []
    for rows in [*table.groups, table.local]:
        ready.trainer.reset()
        table.fit(rows, rounds)
        weights.append(ready.trainer.snapshot())
        sizes.append(len(rows))
    ready.trainer.restore(average(weights, sizes))
    table.fit(table.local, bench.recipe.steps - rounds)
    return bench.recommender.logits(material.test, ready.personal(ready.trainer.snapshot()))


def local_corrected(bench: Bench, material: Material) -> Logits:
    """Local tuning on samples drawn so that positives are as frequent as in the pool."""
    return _corrected(bench, material, material.matched.take(slice(0)))


def matched_corrected(bench: Bench, material: Material) -> Logits:
    """Tuning on local and on matched samples, both drawn so."""
    return _corrected(bench, material, material.matched)


def _corrected(bench: Bench, material: Material, others: SampleBatch) -> Logits:
    if too_few(material.local, bench.recipe):
        return bench.h0(material)
    rate, rng = bench.neighbours.positive_rate, np.random.default_rng(bench.recipe.seed)
    corrected = replace(material, local=at_rate(material.local, rate, rng))
    return bench.tuned(corrected, at_rate(others, rate, rng), replace(bench.recipe, interpolation=1.0))


def at_rate(batch: SampleBatch, rate: float, rng: np.random.Generator) -> SampleBatch:
    """As many samples, all of the scarcer kind among them, repeated until positives are ``rate`` of all.

    Args:
        batch: Samples; unchanged where all are of one label.
        rate: Wanted share of positives, above 0 and below 1.
        rng: Draws which samples repeat or are left out.
    """
    positive = batch.label > 0.5
    if not 0 < positive.sum() < len(batch):
        return batch
    wanted = min(max(round(rate * len(batch)), 1), len(batch) - 1)
    pieces = []
    for rows, count in ((np.flatnonzero(positive), wanted), (np.flatnonzero(~positive), len(batch) - wanted)):
        passes = -(-count // len(rows))
        pieces.append(rng.permuted(np.tile(rows, (passes, 1)), axis=1).ravel()[:count])
    return batch.take(np.sort(np.concatenate(pieces)))


def average(weights: list[Weights], sizes: list[int]) -> Weights:
    """Mean of the weights by number of samples."""
    shares = np.asarray(sizes, np.float32) / np.float32(sum(sizes))
    return {
        name: np.sum([share * one[name] for share, one in zip(shares, weights, strict=True)], axis=0, dtype=np.float32)
        for name in weights[0]
    }


def _users_in_turn(bench: Bench, material: Material, *, select: bool) -> Logits:
    if too_few(material.local, bench.recipe):
        return bench.h0(material)
    batch_size = bench.recommender.model.batch_size
    last = min(_epoch(len(material.local), batch_size), bench.recipe.steps)
    groups = _users_for(bench, material, bench.recipe.steps - last)
    ready = prepared_within_slots(bench.recommender, material.local, groups)
    table = _Table(ready, groups, bench.recipe)
    left = bench.recipe.steps - last
    best = _local_auc(ready.trainer, ready.local)
    for rows in table.groups:
        before, steps = ready.trainer.snapshot(), min(_epoch(len(rows), batch_size), left)
        table.fit(rows, steps)
        left -= steps
        if select:
            reached = _local_auc(ready.trainer, ready.local)
            if reached > best:
                best = reached
            else:
                ready.trainer.restore(before)
    # What users too few for the budget leave is for the local samples, so that the steps are equal.
    table.fit(table.local, last + left)
    return bench.recommender.logits(material.test, ready.personal(ready.trainer.snapshot()))


def _users_for(bench: Bench, material: Material, steps: int) -> list[SampleBatch]:
    """The closest users' samples, user by user, until an epoch on each takes ``steps``."""
    groups: list[SampleBatch] = []
    for user in bench.neighbours.rank(material.local, material.user):
        if steps <= 0:
            break
        groups.append(bench.neighbours.samples(int(user)))
        steps -= _epoch(len(groups[-1]), bench.recommender.model.batch_size)
    return groups


def _epoch(samples: int, batch_size: int) -> int:
    """Steps of one pass; the last batch is filled up from a second one."""
    return -(-samples // batch_size)


def _local_auc(trainer: Trainer, local: SampleBatch) -> float:
    return auc(trainer.logits(local.features), local.label) or 0.0


class _Table:
    """Local samples and whole users' as rows of one table, to fit on any of them."""

    def __init__(self, ready: Prepared, groups: list[SampleBatch], recipe: Recipe) -> None:
        features = ready.local.features
        self._columns = {name: np.concatenate([features[name], ready.matched.features[name]]) for name in features}
        self._columns["label"] = np.concatenate([ready.local.label, ready.matched.label])
        self._trainer, self._recipe = ready.trainer, recipe
        self._rng = np.random.default_rng(recipe.seed)
        ends = np.cumsum([len(ready.local), *map(len, groups)])
        self.local: _Rows = np.arange(ends[0])
        # Groups that the model has no slots for are not among the matched.
        self.groups: list[_Rows] = [
            np.arange(begin, end) for begin, end in pairwise(ends) if end <= len(self._columns["label"])
        ]

    def fit(self, rows: _Rows, steps: int) -> None:
        """Go on from the present weights."""
        if steps > 0:
            sampler = MixedSampler(self._columns, [Group(rows, 1.0)], self._rng)
            self._trainer.fit(sampler, steps, self._recipe.learning_rate, self._recipe.proximal)
