"""`coda cloud models` and `coda cloud database`: what is live, what came before, and whether the database is sound."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud_broker.errors import ModelStageError, TaskError
from cloud_broker.models.registry import Registry
from cloud_broker.tasks.arms import Arm
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.layers import ROLLOUT, Layers
from cloud_broker.tasks.orders import model_of
from cloud_broker.tasks.overrides import Overrides
from cloud_broker.tasks.staging import Plan, Stage
from coda.cli import app
from tests.cloud_broker.samples import SCHEMA

_LINEAGE = {"data": {"samples": 7, "digest": "d" * 64}, "metrics": {"auc": 0.8, "epochs": [0.7, 0.8]}}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs `coda cloud` over a cloud with a live model and a candidate; what it printed."""
    config = tmp_path / "cloud.toml"
    config.write_text(
        'fleet = "test"\nhost = "localhost"\nport = 1883\nstate_dir = "state"\nca_file = "a"\ncert_file = "b"\n'
        f'key_file = "c"\n[storage]\ndatabase_url = "sqlite:///{tmp_path}/elsewhere.sqlite"\n'
    )
    from cloud_broker.config import load_config

    with closing(Registry(load_config(config).place)) as registry:
        registry.publish(SCHEMA, b"h0", b"c", {})
        registry.publish(SCHEMA, b"better", b"c", _LINEAGE, stage="candidate")

    def run(*arguments: str, exit_code: int = 0) -> str:
        done = CliRunner().invoke(app, ["cloud", *arguments, "--config", str(config)], catch_exceptions=False)
        assert done.exit_code == exit_code, done.output
        return done.output

    return run


def test_a_model_that_devices_are_given_is_not_taken_out_of_use(run: Callable[..., str], tmp_path: Path) -> None:
    """While a rollout gives the canary, it neither retires nor makes room for another; it may go live."""
    from cloud_broker.config import load_config

    place = load_config(tmp_path / "cloud.toml").place
    with closing(Registry(place)) as registry, closing(Layers(place)) as layers:
        registry.publish(SCHEMA, b"best", b"c", {}, stage="candidate")
        run("models", "promote", "2")
        arm = Arm("new", Overrides(model=model_of(registry, "canary")))
        layers.begin("try-2", ROLLOUT, Cohort(), (arm,), Plan((Stage(100, 1, 0),)))
    for order in (["retire", "2"], ["promote", "3"], ["promote", "3", "--to", "canary"]):
        with pytest.raises(TaskError, match="model 2 is given to devices by try-2"):
            run("models", *order)
    assert "model 2 is live" in run("models", "promote", "2")
    assert "model 3 is the canary" in run("models", "promote", "3")


def test_a_model_goes_live_by_hand_and_back(run: Callable[..., str]) -> None:
    """Promoted twice it is live; rolled back the one before is; the history says when and why."""
    assert "model 2 is the canary" in run("models", "promote", "2")
    assert "model 2 is live" in run("models", "promote", "2", "--reason", "the canaries do well")
    assert "model 1 is live again" in run("models", "rollback", "--reason", "fewer clicks")
    listed = [line.split()[:2] for line in run("models", "list").splitlines()]
    assert listed == [["2", "retired"], ["1", "live"]]
    shown = run("models", "show", "2")
    assert [line.split()[3] for line in shown.splitlines() if " UTC " in line] == [
        "candidate", "canary", "live", "retired",
    ]  # fmt: skip
    assert "model 1 is live: fewer clicks, from model 2" in shown
    assert "data.samples" in shown
    assert "parent" in shown
    told = json.loads(run("models", "show", "2", "--json"))
    assert told["lineage"] == {"parent": 1, **_LINEAGE}
    assert [change["stage"] for change in told["history"]][-1] == told["stage"] == "retired"
    assert [model["version"] for model in json.loads(run("models", "list", "--json"))] == [2, 1]


def test_what_cannot_be_done_is_said(run: Callable[..., str]) -> None:
    """A stage that is none, and a model that is live."""
    from coda.errors import UsageError

    with pytest.raises(UsageError, match="not to 'retired'"):
        run("models", "promote", "2", "--to", "retired")
    with pytest.raises(ModelStageError, match="model 1 is live"):
        run("models", "retire", "1")
    assert "model 2 is retired" in run("models", "retire", "2")


def test_a_database_is_looked_at(run: Callable[..., str], tmp_path: Path) -> None:
    """Sound as it was made; not any more when somebody changed its tables."""
    assert "is up to date" in run("database", "upgrade")
    assert json.loads(run("database", "check", "--json"))["sound"]
    with closing(sqlite3.connect(tmp_path / "elsewhere.sqlite")) as other:
        other.execute("DROP TABLE told")
    assert "not as it should be" in run("database", "check", exit_code=1)
