"""Jobs that the benchmarks share, each made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.job import Job
from benchmarks.training.race import run_child

JobMaker = Callable[[str], Job]


@pytest.fixture(scope="session")
def make_job(tmp_path_factory: pytest.TempPathFactory) -> JobMaker:
    """The job of a trainable set."""
    from benchmarks.training.prepare import prepare

    made: dict[str, Job] = {}

    def make(trainable: str) -> Job:
        if trainable not in made:
            made[trainable] = prepare(Job(tmp_path_factory.mktemp(trainable), trainable))
        return made[trainable]

    return make


@pytest.fixture(scope="session")
def expected_losses(make_job: JobMaker) -> Callable[[str], list[float]]:
    """Losses of the job of a trainable set: those of our first Trainer whose runtime is installed."""
    known: dict[str, list[float]] = {}
    key = next(key for key, contender in CONTENDERS.items() if contender.is_installed())

    def losses(trainable: str) -> list[float]:
        if trainable not in known:
            known[trainable] = run_child(make_job(trainable), 0, key)["losses"][key]
        return known[trainable]

    return losses


@pytest.fixture(params=["head", "all"])
def trainable(request: pytest.FixtureRequest) -> str:
    """Frozen embedding tables, then tables that train."""
    name: str = request.param
    return name


@pytest.fixture(params=list(CONTENDERS))
def contender(request: pytest.FixtureRequest) -> str:
    """Each contender in turn; skipped where it is not installed."""
    key: str = request.param
    if not CONTENDERS[key].is_installed():
        pytest.skip(f"not installed: pip install {CONTENDERS[key].distribution}")
    return key
