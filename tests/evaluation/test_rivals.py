"""Every arm over the real code: equal steps, the same by seed, and each does what its description says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.learning.classifier import classify
from edge.learning.model import Weights
from edge.learning.runtime import open_model
from edge.learning.trainer import Trainer
from evaluation import ablations, rivals
from evaluation.arms import ARMS, BY_AGREEMENT, tunes_frozen
from evaluation.bench import Bench, Material, local_only
from evaluation.errors import PlanError
from evaluation.neighbours import Neighbours
from evaluation.pool_files import CLASSIFIER_FILE, FROZEN_FOLDER, open_recommender
from evaluation.world import World
from protocol.recipe import Recipe
from protocol.samples import SampleBatch

_RECIPE = Recipe(steps=128, classifier_steps=30, match_samples=200, learning_rate=0.1)
_TWICE = 2  # the round tunes for its gate, and again for what it serves
_COHORT = rivals.COHORT * 64 + 64
_STEPS = {"cloud": 0, "fedavg": _COHORT} | {
    name: _TWICE * 128 for name in ARMS if name.startswith((BY_AGREEMENT, "coda"))
}


@pytest.fixture(scope="module")
def bench(world: World) -> Bench:
    """Every model of the world."""
    return Bench(
        open_recommender(world.folder),
        open_recommender(world.folder / FROZEN_FOLDER),
        Trainer(open_model(world.folder / CLASSIFIER_FILE)),
        Neighbours(world.split.pool, world.split.pool_owner),
        _RECIPE,
    )


@pytest.fixture(scope="module")
def material(world: World) -> Material:
    """One device's samples."""
    device = world.split.devices[0]
    found = world.find(device, _RECIPE, by_agreement=True)
    pool = world.split.pool
    return Material(
        user=device.user,
        local=device.local,
        matched=pool.take(found.matched),
        nearest=pool.take(found.nearest),
        random=pool.take(found.random),
        agreed=pool.take(found.agreed),
        test=device.test,
    )


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Trainer, int, Weights, Weights]]:
    """Every fit: its trainer, its steps, the weights before and after it."""
    seen: list[tuple[Trainer, int, Weights, Weights]] = []
    fit = Trainer.fit

    def told(self: Trainer, sampler: Any, steps: int, *rest: Any, **options: Any) -> Any:
        before = self.snapshot()
        losses = fit(self, sampler, steps, *rest, **options)
        seen.append((self, steps, before, self.snapshot()))
        return losses

    monkeypatch.setattr(Trainer, "fit", told)
    return seen


def _equal(ours: Weights, theirs: Weights) -> bool:
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_takes_equally_many_steps(
    name: str, bench: Bench, material: Material, fits: list[tuple[Trainer, int, Weights, Weights]]
) -> None:
    """As many of the recommender's steps as the recipe says, twice where a gate wants a model of its own."""
    own = replace(material)  # a device that this bench has not seen, or it would remember its round
    ARMS[name].run(bench, own)
    steps: Counter[bool] = Counter()
    for trainer, count, _, _ in fits:
        steps[trainer is bench.classifier] += count
    assert steps[False] == _STEPS.get(name, 128)


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_repeats_itself(name: str, bench: Bench, material: Material) -> None:
    """The same seed gives the same logits, whatever ran before; and it is not h0 that is served."""
    first, again = (ARMS[name].run(bench, replace(material)) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.isfinite(first).all()
    if name in ("local", "random", "matched", "fedavg", "coda-no-gate"):
        assert not np.array_equal(first, bench.h0(material))


@pytest.mark.parametrize("name", ARMS)
def test_with_too_few_samples_every_arm_is_the_cloud(name: str, bench: Bench, material: Material) -> None:
    """Nothing is tuned where the recipe wants more local samples than there are."""
    strict = Bench(
        bench.recommender, bench.frozen, bench.classifier, bench.neighbours, replace(_RECIPE, min_local_samples=10_000)
    )
    np.testing.assert_allclose(ARMS[name].run(strict, material), bench.h0(material), atol=1e-5)


def test_every_arm_says_in_a_line_what_it_is() -> None:
    """Names are those of the registry, descriptions short."""
    assert all(name == arm.name and 0 < len(arm.description) <= 100 for name, arm in ARMS.items())


def test_mpda_keeps_a_user_only_if_the_local_auc_rises(
    bench: Bench,
    material: Material,
    fits: list[tuple[Trainer, int, Weights, Weights]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the next user starts from is what the last one left, or what it found, as the AUC says."""
    aucs: list[float] = []
    measure = rivals._local_auc

    def told(trainer: Trainer, local: SampleBatch) -> float:
        aucs.append(measure(trainer, local))
        return aucs[-1]

    monkeypatch.setattr(rivals, "_local_auc", told)
    rivals.mpda(bench, material)
    best, kept = aucs[0], []
    for place, reached in enumerate(aucs[1:]):
        kept.append(reached > best)
        best = max(best, reached)
        _, _, before, after = fits[place]
        assert _equal(fits[place + 1][2], after if kept[-1] else before)
    assert len(kept) == len(fits) - 1 > 1
    assert not all(kept)


def test_mpdas_ablation_keeps_every_user(
    bench: Bench, material: Material, fits: list[tuple[Trainer, int, Weights, Weights]]
) -> None:
    """Each starts where the one before it ended."""
    rivals.mpda_match(bench, material)
    assert all(_equal(later[2], earlier[3]) for earlier, later in pairwise(fits))


def test_fedavg_of_one_device_is_local_tuning(bench: Bench, material: Material) -> None:
    """Up to the rounding of an average and of an interpolation that change nothing."""
    alone = rivals.fedavg_with(bench, material, 1)
    personal = local_only(bench.recommender, material.local, _RECIPE)
    np.testing.assert_allclose(alone, bench.recommender.logits(material.test, personal), atol=1e-5)


def test_averaged_weights_count_by_samples() -> None:
    """Three samples of 0 and one of 1 make a quarter."""
    ones, zeros = ({"w": np.full(2, value, np.float32)} for value in (1, 0))
    assert rivals.average([zeros, ones], [3, 1])["w"].tolist() == [0.25, 0.25]


@settings(deadline=None, max_examples=25)
@given(positives=st.integers(1, 40), negatives=st.integers(1, 40), rate=st.floats(0.05, 0.95))
def test_label_correction_meets_the_rate(material: Material, positives: int, negatives: int, rate: float) -> None:
    """As many samples as before, positives as often as wanted, and never one that was not there."""
    rows = np.arange(positives + negatives) % len(material.matched)
    batch = material.matched.take(rows)
    label = (np.arange(len(rows)) < positives).astype(np.float32)
    batch = SampleBatch(batch.schema, batch.features, label, np.arange(len(rows)))
    corrected = rivals.at_rate(batch, rate, np.random.default_rng(0))
    assert len(corrected) == len(batch)
    assert abs(float(corrected.label.sum()) - rate * len(batch)) <= 1
    assert np.array_equal(batch.label[corrected.time_s], corrected.label)


def test_label_correction_leaves_one_class_alone(material: Material) -> None:
    """No rate can be met with samples of one label."""
    positives = material.matched.take(np.flatnonzero(material.matched.label > 0.5))
    assert rivals.at_rate(positives, 0.5, np.random.default_rng(0)) is positives


def test_frozen_embeddings_do_not_move(bench: Bench, material: Material) -> None:
    """Its file trains no table, and tuning moves the rest."""
    frozen = bench.over_frozen.recommender
    assert not any("embedding" in name or name.endswith("bias_embeddings") for name in frozen.model.get_weights())
    h0 = frozen.logits(material.test)
    np.testing.assert_allclose(h0, bench.h0(material), atol=1e-5)
    tuned = bench.over_frozen.coda(material).tuned
    assert not np.allclose(frozen.logits(material.test, tuned), h0, atol=1e-3)


def test_a_world_without_frozen_embeddings_says_so(bench: Bench, material: Material) -> None:
    """An arm that wants them is refused, and is not run on a file that trains them."""
    without = Bench(bench.recommender, None, bench.classifier, bench.neighbours, _RECIPE)
    with pytest.raises(PlanError, match="frozen=True"):
        ARMS["coda-frozen"].run(without, material)
    assert [name for name in ARMS if tunes_frozen([name])] == [
        name for name, arm in ARMS.items() if "embeddings frozen" in arm.description
    ]


def test_a_classifier_without_labels_is_blind_to_them(bench: Bench, material: Material) -> None:
    """Other labels, the same scores; with labels, others."""
    ready = bench.recommender.prepare(material.local, material.matched)
    flipped = replace(ready.matched, label=1 - ready.matched.label)
    for weigh, blind in ((ablations.without_label, True), (classify, False)):
        given_, other = (
            weigh(ready.trainer, bench.classifier, ready.local, matched, _RECIPE).scores
            for matched in (ready.matched, flipped)
        )
        assert np.array_equal(given_, other) == blind


def test_ways_to_weigh(bench: Bench, material: Material) -> None:
    """Alike are ones; above a half zeros and ones; by score the scores; without folds one weight a sample."""
    ready = bench.recommender.prepare(material.local, material.matched)

    def weigh(by: Any) -> Any:
        return by(ready.trainer, bench.classifier, ready.local, ready.matched, _RECIPE)

    assert set(weigh(ablations.all_alike).keep_weights.tolist()) == {1.0}
    half, score, whole = (weigh(by) for by in (ablations.above_half, ablations.by_score, ablations.without_folds))
    assert np.array_equal(half.keep_weights, (half.scores >= 0.5).astype(np.float32))
    assert np.array_equal(score.keep_weights, score.scores)
    assert whole.keep_weights.shape == (len(ready.matched),)
    assert whole.keep_weights.max() <= _RECIPE.keep_weight_clip


def test_neighbours_agree_most(bench: Bench, world: World) -> None:
    """A user of the pool is closest to the user's own samples, and is left out when it asks."""
    neighbours = bench.neighbours
    for user in neighbours.users[:5].tolist():
        own = neighbours.samples(user)
        assert np.array_equal(own.label, world.split.pool.label[world.split.pool_owner == user])
        assert neighbours.rank(own)[0] == user
        assert user not in neighbours.rank(own, user)
    assert neighbours.positive_rate == pytest.approx(float(world.split.pool.label.mean()))


def test_samples_of_neighbours_come_user_by_user(bench: Bench) -> None:
    """As many as wanted, the first user's first; all there are where more are wanted."""
    neighbours = bench.neighbours
    users = neighbours.users[:2].astype(np.int64)
    first, second = (neighbours.rows(int(user)) for user in users)
    rows = neighbours.rows_of_first(users, len(first) + 3)
    assert rows.tolist() == [*first.tolist(), *second[:3].tolist()]
    assert len(neighbours.rows_of_first(users, 10**6)) == len(first) + len(second)
