"""What rows come to: users counted once, arms paired, words that fit the figures, files that fit their schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import evaluation
from evaluation.findings import groups_of
from evaluation.journal import CellFacts
from evaluation.metrics import expected_calibration_error, sigmoid
from evaluation.outcome import write_outcome
from evaluation.plan import Cell, Place, Plan
from evaluation.scores import DeviceRow, Score
from evaluation.study import Study
from evaluation.synthetic import generate_synthetic
from evaluation.words import verdict

_DATA = generate_synthetic(users=20, items=60).interactions
_PLAN = Plan(arms=("cloud", "local", "coda"), seeds=(1, 2))


def _row(user: int, aucs: Mapping[str, float | None], local: int = 30, loss: float = 0.5) -> DeviceRow:
    scores = {arm: Score(auc, loss, 0.5, ((3, 10, 3.5, 4.0),)) for arm, auc in aucs.items()}
    return DeviceRow(user, local, 10, 100, 80, 1000, True, "said why", None, scores)


def _study(*cells: list[DeviceRow], plan: Plan = _PLAN) -> Study:
    facts = CellFacts((), 1, 0, 0, 100)
    places = [Cell(Place(seed, 0), 20) for seed in range(1, len(cells) + 1)]
    return Study(_DATA, plan, dict.fromkeys(places, facts), dict(zip(places, map(tuple, cells), strict=True)))


def _constant(cloud: float, local: float, coda: float, users: int = 30) -> list[DeviceRow]:
    return [_row(user, {"cloud": cloud, "local": local, "coda": coda}) for user in range(users)]


def test_a_user_counts_once_however_many_seeds() -> None:
    """Its seeds are averaged first: the interval is as wide as the users differ."""
    first = [_row(u, {"cloud": 0.5, "local": 0.5, "coda": 0.5 + 0.1 * u}) for u in range(3)]
    second = [_row(u, {"cloud": 0.5, "local": 0.5, "coda": 0.5}) for u in range(2)]
    (group,) = groups_of(_study(first, second))
    gain = group.difference("coda", "cloud")
    assert gain is not None
    assert gain.user_auc is not None
    assert gain.user_auc.users == group.users == 3
    assert group.rows == 5
    assert gain.user_auc.mean == pytest.approx((0.0 + 0.05 + 0.2) / 3)
    assert (gain.users.up, gain.users.same, gain.users.down) == (2, 1, 0)


def test_a_user_without_an_auc_is_left_out_and_counted() -> None:
    """Of pairs only; its log-loss still counts."""
    rows = [_row(0, {"cloud": 0.5, "local": 0.5, "coda": 0.6}), _row(1, {"cloud": None, "local": None, "coda": None})]
    (group,) = groups_of(_study(rows, plan=replace(_PLAN, seeds=(1,))))
    gain = group.difference("coda", "cloud")
    assert group.one_class_users == 1
    assert gain is not None
    assert gain.user_auc is not None
    assert gain.user_auc.users == 1
    loss = group.arm("coda").log_loss
    assert loss is not None
    assert loss.users == 2


def test_calibration_is_over_all_samples_together() -> None:
    """Devices' bins add up to what the samples in one heap give."""
    rng = np.random.default_rng(1)
    labels = [rng.integers(0, 2, 40).astype(np.float32) for _ in range(3)]
    logits = [rng.normal(size=40) for _ in range(3)]
    rows = [replace(_row(u, {}), scores={arm: Score.of(labels[u], logits[u]) for arm in _PLAN.arms}) for u in range(3)]
    (group,) = groups_of(_study(rows))
    whole = expected_calibration_error(np.concatenate(labels), sigmoid(np.concatenate(logits)))
    assert group.arm("coda").calibration_error == pytest.approx(whole)
    ratio = sigmoid(np.concatenate(logits)).sum() / np.concatenate(labels).sum()
    assert group.arm("coda").predicted_to_observed == pytest.approx(ratio)


def test_users_are_told_by_their_local_samples() -> None:
    """Each bucket has its own gain; empty ones are not shown."""
    gains = {5: 0.0, 30: 0.1, 500: 0.2}
    rows = [
        _row(user, {"cloud": 0.5, "local": 0.5, "coda": 0.5 + gains[count]}, count)
        for user, count in enumerate([5, 30, 30, 500])
    ]
    (group,) = groups_of(_study(rows))
    assert [(b.samples_from, b.samples_below, b.users) for b in group.buckets] == [
        (0, 20, 1),
        (20, 50, 2),
        (200, None, 1),
    ]
    assert [b.gain and round(b.gain.mean, 6) for b in group.buckets] == [0.0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("coda", "local", "said"),
    [
        (0.6, 0.5, ["personalisation pays.", "+0.1000", "100% of users are ranked better, 0% worse", "samples help"]),
        (0.4, 0.5, ["personalisation does harm.", "100% worse", "others' samples do harm"]),
        (0.5, 0.5, ["no gain that this data can show", "no difference that this data can show"]),
    ],
)  # fmt: skip
def test_the_words_fit_the_figures(coda: float, local: float, said: list[str]) -> None:
    """Gain, harm and neither, each said as such."""
    (group,) = groups_of(_study(_constant(0.5, local, coda)))
    words = " ".join(verdict(group, _PLAN))
    assert all(part in words for part in said), words


def test_a_few_users_are_not_spoken_for() -> None:
    """However sure their interval looks: of one user it has no width at all."""
    (group,) = groups_of(_study(_constant(0.5, 0.5, 0.6, users=3)))
    words = " ".join(verdict(group, _PLAN))
    assert "3 users are too few to tell" in words
    assert "pays" not in words
    assert "help" not in words


def test_without_any_auc_nothing_is_claimed() -> None:
    """And the page and the file can still be made."""
    rows = [_row(0, dict.fromkeys(_PLAN.arms))]
    (group,) = groups_of(_study(rows))
    assert "nothing can be said" in verdict(group, _PLAN)[0]


@pytest.mark.parametrize("rows", [_constant(0.5, 0.55, 0.6), [_row(0, dict.fromkeys(_PLAN.arms))]])
def test_the_files_fit_their_schema_and_need_no_other(rows: list[DeviceRow], tmp_path: Path) -> None:
    """The page loads nothing from elsewhere and says that its data is made up; the JSON is documented."""
    study = _study(rows)
    result, page = write_outcome(study, groups_of(study), tmp_path)
    schema = json.loads((Path(evaluation.__file__).parent / "evaluation.schema.json").read_text())
    jsonschema.validate(json.loads(result.read_text()), schema)
    html = page.read_text()
    assert "Synthetic data." in html
    assert "src=" not in html
    assert "http" not in html
