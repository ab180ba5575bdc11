"""Studies: all cells, resumed after a kill, never mixed with another study, the same however they came about."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from evaluation import world_cache
from evaluation.errors import JournalError, PlanError, SplitError
from evaluation.journal import CellFacts, Journal
from evaluation.plan import Cell, Place, Plan
from evaluation.scores import DeviceRow, Score
from evaluation.split import Protocol
from evaluation.study import Study, run_study
from evaluation.synthetic import generate_synthetic
from protocol.recipe import Recipe

_RECIPE = Recipe(steps=20, classifier_steps=10, match_samples=100)
_DATA = generate_synthetic(users=40, items=100, seed=3).interactions
_PLAN = Plan(local_events=(5, 20), arms=("cloud", "local", "coda"), model="lr", recipe=_RECIPE, max_devices=3)
_CELL = Cell(Place(1, 0), 20)


def _row(user: int, **aucs: float) -> DeviceRow:
    scores = {arm: Score(auc, 0.5, 0.5, ((3, 2, 0.7, 1.0),)) for arm, auc in aucs.items()}
    return DeviceRow(user, 20, 10, 100, 80, 1000, True, "said why", 0.6, scores)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path, Path]:
    """A small study, where its rows are, and where its world is kept."""
    out, worlds = tmp_path_factory.mktemp("study"), tmp_path_factory.mktemp("worlds")
    return run_study(_DATA, _PLAN, out, workers=2, keep_worlds_in=worlds), out, worlds


def test_every_device_of_every_cell_has_a_row_with_every_arm(study: tuple[Study, Path, Path]) -> None:
    """The cells differ in the devices' local samples, and share the world."""
    found, _, worlds = study
    assert [str(cell) for cell in found.rows] == ["seed1-fold0-n5", "seed1-fold0-n20"]
    few, many = found.rows.values()
    assert [row.user for row in few] == [row.user for row in many]
    assert all(a.samples_local < b.samples_local for a, b in zip(few, many, strict=True))
    assert {tuple(row.scores) for row in (*few, *many)} == {("cloud", "local", "coda")}
    assert [row.scores["cloud"] for row in few] == [row.scores["cloud"] for row in many]
    assert len([place for place in worlds.iterdir() if not place.name.startswith(".")]) == 1


def test_a_study_goes_on_and_comes_to_the_same(study: tuple[Study, Path, Path], tmp_path: Path) -> None:
    """Of a study that stopped half-way, with a torn last line, only what is missing is tried again."""
    found, out, worlds = study
    journal = Journal(tmp_path, json.loads((out / "study.json").read_text()))
    kept = next(iter(found.rows))
    journal.expect(kept, found.cells[kept])
    mark = replace(found.rows[kept][0], gate="from the first run")
    journal.add(kept, mark)
    with (tmp_path / "rows" / f"{kept}.jsonl").open("a") as file:
        file.write('{"user": 3, "sampl')
    told: list[tuple[str, int, int]] = []
    again = run_study(_DATA, _PLAN, tmp_path, workers=1, keep_worlds_in=worlds, progress=lambda *one: told.append(one))
    assert told[-1] == ("devices", 5, 5)
    assert again.rows[kept][0] == mark
    assert again.rows[kept][1:] == found.rows[kept][1:]
    assert [again.rows[cell] for cell in list(again.rows)[1:]] == [found.rows[cell] for cell in list(found.rows)[1:]]
    assert again.cells == found.cells


def test_a_finished_study_is_read_and_not_run(study: tuple[Study, Path, Path]) -> None:
    """Asking again starts no process; asking for fewer arms shows fewer."""
    found, out, _ = study
    told: list[tuple[str, int, int]] = []
    assert run_study(_DATA, _PLAN, out, progress=lambda *one: told.append(one)).rows == found.rows
    fewer = run_study(_DATA, replace(_PLAN, arms=("cloud", "coda")), out)
    assert {tuple(row.scores) for rows in fewer.rows.values() for row in rows} == {("cloud", "coda")}
    assert told == []


def test_another_study_is_not_mixed_in(study: tuple[Study, Path, Path]) -> None:
    """Other settings or other data in the same folder are refused, and named."""
    _, out, _ = study
    with pytest.raises(JournalError, match="differs in recipe"):
        run_study(_DATA, replace(_PLAN, recipe=Recipe()), out)
    with pytest.raises(JournalError, match="differs in data"):
        run_study(generate_synthetic(users=30, items=90).interactions, _PLAN, out)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A second writer is sent away."""
    journal = Journal(tmp_path, {})
    with journal.locked(), pytest.raises(JournalError, match="another run"), Journal(tmp_path, {}).locked():
        pass


def test_rows_of_several_runs_are_joined(tmp_path: Path) -> None:
    """A device's arms may come from two runs; scores come back as they were."""
    journal = Journal(tmp_path, {})
    journal.add(_CELL, _row(7, cloud=0.5, local=0.6))
    journal.add(_CELL, _row(7, cloud=0.5, coda=0.7))
    journal.add(_CELL, _row(8, cloud=0.5))
    rows = journal.rows(_CELL)
    assert rows[7] == _row(7, cloud=0.5, local=0.6, coda=0.7)
    assert set(rows) == {7, 8}
    assert journal.expected(_CELL) is None
    facts = CellFacts((7, 8), 1, 2, 3, 400)
    journal.expect(_CELL, facts)
    assert journal.expected(_CELL) == facts


def test_an_error_in_a_world_is_the_studys_error() -> None:
    """What a process raises arrives with its text."""
    with pytest.raises(SplitError, match="too few"):
        run_study(generate_synthetic(users=1, items=60, clusters=1).interactions, _PLAN, workers=1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"arms": ("magic",)}, "magic"), ({"folds": (3,)}, "3"), ({"seeds": ()}, "seed"), ({"model": "oracle"}, "oracle")],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, tuple[str, ...]], named: str) -> None:
    """And says what there is to choose from."""
    with pytest.raises(PlanError, match=named):
        Plan(**wrong)  # type: ignore[arg-type]


def test_only_new_devices_have_folds_and_few_events() -> None:
    """Returning users all have one world, and keep all they have."""
    plan = Plan(protocol=Protocol.RETURNING, local_events=(5, 20), folds=(0, 1, 2), seeds=(1, 2))
    assert [str(cell) for cell in plan.cells] == ["seed1-fold0-all", "seed2-fold0-all"]


def test_worlds_that_were_not_used_for_long_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used goes first, and none that a run of today may have open."""
    monkeypatch.setattr(world_cache, "MAX_BYTES", 250)
    for days, name in enumerate(["today", "yesterday", "before"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vectors.npy").write_bytes(bytes(100))
        os.utime(tmp_path / name, (time.time() - days * 90_000,) * 2)
    world_cache.make_room(tmp_path)
    assert {place.name for place in tmp_path.iterdir()} == {"today", "yesterday"}
    monkeypatch.setattr(world_cache, "MAX_BYTES", 0)
    world_cache.make_room(tmp_path)
    assert {place.name for place in tmp_path.iterdir()} == {"today"}


_STARTS_WORKERS = """
import os, sys, time
from evaluation.workers import process_pool
if __name__ == "__main__":
    with process_pool(2, "waiting") as pool:
        print(*{pool.submit(os.getpid).result(), pool.submit(os.getpid).result()}, flush=True)
        sys.stdin.read()
"""


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """However it ended: a killed run leaves no process behind."""
    script = tmp_path / "run.py"
    script.write_text(_STARTS_WORKERS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with Popen([sys.executable, script], env=environment, text=True, stdin=PIPE, stdout=PIPE) as run:
        assert run.stdout is not None
        workers = [int(number) for number in run.stdout.readline().split()]
        assert workers
        os.kill(run.pid, signal.SIGKILL)
        run.stdout.read()  # ends when the last process that holds the pipe has ended
