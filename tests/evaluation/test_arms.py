"""The arms over the real code: a small world, trained, converted, matched and personalised in worker processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.building import build_world
from evaluation.h0 import evaluate_h0
from evaluation.plan import DEFAULT_ARMS
from evaluation.pool_files import map_owner, map_pool, write_pool
from evaluation.results import ArmsResult, Setting
from evaluation.runner import run_devices
from evaluation.samples import Labels
from evaluation.scores import DeviceRow, Score
from evaluation.split import Protocol
from evaluation.world import World
from protocol.recipe import Recipe
from tests.evaluation.conftest import DATA

_RECIPE = Recipe(steps=40, classifier_steps=30, match_samples=200)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("worker", "'tensorflow', 'keras', 'faiss', 'pandas'"), ("study", "'tensorflow', 'keras'")],
)
def test_workers_and_who_directs_them_need_no_tensorflow(module: str, heavy: str) -> None:
    """A worker is as small as a device; a study whose worlds are kept loads no TensorFlow in any process."""
    code = f"import sys, evaluation.{module}; print({{{heavy}}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_every_arm_is_tried_on_every_device_the_same_with_any_number_of_workers(world: World) -> None:
    """Rows come in the devices' order and do not hang on how the work was shared."""
    devices = world.split.devices[:4]
    told: list[tuple[str, int, int]] = []
    rows = run_devices(world, devices, _RECIPE, workers=2, progress=lambda *words: told.append(words))
    again = run_devices(world, devices, _RECIPE, workers=1)
    assert rows == again
    assert [row.user for row in rows] == [device.user for device in devices]
    assert all(tuple(row.scores) == DEFAULT_ARMS for row in rows)
    assert told[-1] == ("devices", 4, 4)
    assert all(row.samples_matched == 200 and row.bytes_matched > 0 for row in rows)
    tuned = [row.scores["matched"].log_loss != row.scores["cloud"].log_loss for row in rows]
    assert any(tuned)


def test_a_device_with_too_few_samples_is_served_h0(world: World) -> None:
    """Every arm then scores as the cloud's model does."""
    recipe = Recipe(min_local_samples=10_000, match_samples=50)
    row = run_devices(world, world.split.devices[:1], recipe, workers=1)[0]
    assert not row.activated
    assert all(score == row.scores["cloud"] for score in row.scores.values())


def test_random_rows_are_not_the_devices_own(world: World) -> None:
    """As many as matched, from other users, and the same each time."""
    device = world.split.devices[0]
    found, again = (world.find(device, _RECIPE) for _ in range(2))
    assert len(found.random) == len(found.matched) == 200
    assert np.array_equal(found.random, again.random)
    assert np.array_equal(found.matched, again.matched)
    assert device.user not in world.split.pool_owner[found.random]


def test_the_pool_is_mapped_as_it_was_written(world: World, tmp_path: Path) -> None:
    """Every column and the schema come back."""
    pool = world.split.pool.take(slice(0, 50))
    owner = world.split.pool_owner[:50]
    write_pool(pool, owner, tmp_path)
    mapped = map_pool(tmp_path)
    assert mapped.schema == pool.schema
    assert np.array_equal(map_owner(tmp_path), owner)
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(mapped.columns(), pool.columns(), strict=True))


def _row(user: int, cloud: float | None, coda: float | None) -> DeviceRow:
    scores = {"cloud": Score(cloud, 0.5, None), "coda": Score(coda, 0.4, None)}
    return DeviceRow(user, 20, 10, 100, 80, 1000, user == 0, "said why", None, scores)


def test_results_are_paired_by_user_and_written(tmp_path: Path) -> None:
    """Differences use users with both values; the summary and one line a device lie in the folder."""
    setting = Setting("d", True, "implicit", "new", 20, 1, 0, "test", Recipe().to_dict())
    result = ArmsResult(setting, (_row(0, 0.5, 0.7), _row(1, 0.6, 0.6), _row(2, None, 0.9)))
    gain = result.compare("cloud")
    assert gain.user_auc is not None
    assert gain.user_auc.mean == pytest.approx(0.1)
    assert (gain.users.up, gain.users.same, gain.users.down) == (1, 1, 0)
    result.write(tmp_path)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["devices"] == 3
    assert written["activated"] == 1
    assert written["coda_minus"]["cloud"]["user_auc"]["users"] == 2
    lines = (tmp_path / "devices.jsonl").read_text().splitlines()
    assert tuple(DeviceRow.from_dict(json.loads(line)) for line in lines) == result.rows


@pytest.mark.parametrize("labels", list(Labels))
def test_h0_learns_what_people_of_like_taste_do(labels: Labels) -> None:
    """On clustered users it ranks better than chance, and its baselines are told beside it."""
    result = evaluate_h0(DATA, labels, Protocol.NEW)
    assert result.synthetic
    assert result.mean_user_auc.low > 0.5
    assert set(result.baselines) == {"item mean", "popularity", "user kNN"}
    assert json.dumps(result.to_dict())


def test_arms_come_to_the_same_through_slots(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world whose model has slots for its items finds the same samples and gives the same scores."""
    monkeypatch.setattr("evaluation.building.SLOTS", 100)
    slotted = build_world(world.split, tmp_path, labels=Labels.IMPLICIT)
    assert (tmp_path / "rows.npy").exists()
    devices = world.split.devices[:3]
    arms = (*DEFAULT_ARMS, "coda-frozen")
    found = (run_devices(one, devices, _RECIPE, arms, workers=1) for one in (slotted, world))
    for ours, theirs in zip(*found, strict=True):
        assert ours.samples_matched == theirs.samples_matched
        for arm, score in theirs.scores.items():
            assert ours.scores[arm].log_loss == pytest.approx(score.log_loss, abs=2e-2), arm
