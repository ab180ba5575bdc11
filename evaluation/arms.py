"""The ways to serve one device that are compared, over the edge's own code and at equal gradient steps.

Every arm but ``cloud`` takes ``recipe.steps`` steps from h0 to what it serves. Nothing here imports TensorFlow, so a
worker process stays as small as a device. ``coda evaluate arms`` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge.learning.gate import Decision
from edge.learning.recommender import latest_that_fit
from evaluation import ablations, rivals
from evaluation.ablations import Run, frozen, weighed_by, with_recipe
from evaluation.bench import Bench, Logits, Material, local_only
from evaluation.scores import DeviceRow, Score
from protocol.fleet_gain import ReportedGain
from protocol.samples import empty_batch

BY_AGREEMENT = "agreement"  # what its devices need is looked up for no other arm


@dataclass(frozen=True)
class Arm:
    """One way to serve a device.

    Attributes:
        name: As ``--arms`` takes it.
        description: In one line.
        run: Gives the logits of the test samples.
    """

    name: str
    description: str
    run: Run


def _cloud(bench: Bench, material: Material) -> Logits:
    return bench.h0(material)


def _local(bench: Bench, material: Material) -> Logits:
    return bench.recommender.logits(material.test, local_only(bench.recommender, material.local, bench.recipe))


def _gentle(bench: Bench, material: Material) -> Logits:
    return bench.tuned(material, empty_batch(material.local.schema), bench.recipe)


def _random(bench: Bench, material: Material) -> Logits:
    return bench.tuned(material, material.random, replace(bench.recipe, interpolation=1.0))


def _matched(bench: Bench, material: Material) -> Logits:
    return bench.tuned(material, material.matched, replace(bench.recipe, interpolation=1.0))


def _coda(bench: Bench, material: Material) -> Logits:
    return bench.recommender.logits(material.test, bench.coda(material).personal)


_ALL = (
    Arm("cloud", "h0 as it is", _cloud),
    Arm("local", "h0 tuned on all local samples, all the way", _local),
    Arm("gentle", "the same, then drawn toward h0 as CoDA is: what shrinkage alone gives", _gentle),
    Arm("random", "tuned on local samples and random ones of the pool, all the way", _random),
    Arm("matched", "tuned on local samples and matched ones, unfiltered, all the way", _matched),
    Arm("coda", "the device's round: classifier, keep weights, tuning, interpolation, gate", _coda),
    Arm("mpda", "MPDA: an epoch on each matched user, kept if the local AUC rises; at last one on local", rivals.mpda),
    Arm("mpda-match", "MPDA's ablation: the same users, none taken back", rivals.mpda_match),
    Arm("fedavg", "FedAvg with the closest users, then local tuning", rivals.fedavg),
    Arm("local-corrected", "local, positives drawn as often as in the pool (label correction)", rivals.local_corrected),
    Arm("matched-corrected", "matched, both kinds of samples drawn so", rivals.matched_corrected),
    Arm("coda-hard", "CoDA, keeping what passes the device's own threshold", with_recipe(keep_rule="hard")),
    Arm("coda-half", "CoDA, keeping what passes a threshold of 0.5", weighed_by(ablations.above_half)),
    Arm("coda-score", "CoDA, weighing by P(local) instead of the ratio of densities", weighed_by(ablations.by_score)),
    Arm("coda-unfiltered", "CoDA without its classifier: every matched sample alike", weighed_by(ablations.all_alike)),
    Arm("coda-no-label", "CoDA, the classifier blind to labels", weighed_by(ablations.without_label)),
    Arm("coda-no-folds", "CoDA, its classifier scoring what it trained on", weighed_by(ablations.without_folds)),
    Arm("coda-no-gate", "CoDA without its gate: always the personal model", ablations.without_gate),
    Arm("coda-alpha", "CoDA, the way from h0 chosen by the hold-out, no gate", ablations.with_chosen_alpha),
    Arm("coda-full", "CoDA, all the way from h0", with_recipe(interpolation=1.0)),
    Arm("coda-proximal", "CoDA, all the way under a proximal pull of 1", with_recipe(interpolation=1.0, proximal=1.0)),
    Arm("coda-frozen", "CoDA, embeddings frozen", frozen(_coda)),
    Arm("local-frozen", "local, embeddings frozen", frozen(_local)),
    Arm("random-frozen", "random, embeddings frozen", frozen(_random)),
    Arm("matched-frozen", "matched, embeddings frozen", frozen(_matched)),
    Arm("coda-nearest", "CoDA on the first quarter of the matched samples: a smaller K", ablations.with_nearest),
    Arm("coda-random", "CoDA on random samples of the pool", ablations.with_random),
    Arm(BY_AGREEMENT, "CoDA on what the cloud matches by the device's opinions of items", ablations.with_agreed),
    Arm("coda-agreement", "CoDA on samples of the users who agree most on shared items", ablations.by_agreement),
)  # fmt: skip
ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _ALL}


def tunes_frozen(arms: Iterable[str]) -> bool:
    """Whether one of these arms tunes h0 with frozen embeddings, which is a file of its own."""
    return any(name.endswith("-frozen") for name in arms)


def try_arms(bench: Bench, material: Material, arms: Sequence[str], bytes_matched: int = 0) -> DeviceRow:
    """Try ``arms`` on one device.

    Args:
        bench: The models.
        material: The device's samples.
        arms: Names; ``coda`` is run in any case.
        bytes_matched: For the record.
    """
    material = replace(material, local=latest_that_fit(material.local, bench.recommender.table))
    wanted = dict.fromkeys([*arms, "coda"])
    logits = {name: ARMS[name].run(bench, material) for name in wanted}
    served = bench.coda(material)
    outcome, found = served.outcome, served.outcome.classification
    tuned = None if served.tuned is None else bench.recommender.logits(material.test, served.tuned)
    return DeviceRow(
        user=material.user,
        samples_local=len(material.local),
        samples_test=len(material.test),
        samples_matched=len(material.matched),
        samples_kept=outcome.samples_kept,
        bytes_matched=bytes_matched,
        activated=outcome.decision.activate,
        gate=outcome.decision.reason,
        classifier_auc=None if found is None else found.heldout_auc,
        scores={name: Score.of(material.test.label, values) for name, values in logits.items()},
        gain=_reported(outcome.decision, len(material.local)),
        personal=None if tuned is None else Score.of(material.test.label, tuned),
    )


def _reported(decision: Decision, samples: int) -> ReportedGain | None:
    if decision.ranking_gain is None:
        return None
    return ReportedGain(samples, decision.ranking_gain, decision.ranking_gain_error)
