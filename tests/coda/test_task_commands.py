"""`coda cloud task`, `devices`, `tag` and `experiment`, over the stores of a cloud that is not running."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud_broker.storage.ledger import Ledger
from cloud_broker.tasks.book import TaskBook
from coda.cli import app
from coda.errors import UsageError
from protocol.messages import BlobRef, Hello, Report
from protocol.recipe import Recipe
from tests.cloud_broker.samples import SCHEMA

BLOB = BlobRef("a" * 64, 10)
NAMES = tuple(f"kiosk-{number}" for number in range(12))


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskBook]:
    """The book of a cloud whose configuration lies where commands are run; twelve devices have its task."""
    monkeypatch.chdir(tmp_path)
    files = "".join(f'{name}_file = "{name}.pem"\n' for name in ("ca", "cert", "key"))
    (tmp_path / "cloud.toml").write_text(f'fleet = "f"\nhost = "localhost"\nport = 1\nstate_dir = "state"\n{files}')
    with closing(TaskBook(tmp_path / "state")) as book:
        book.make_current(SCHEMA, Recipe(), BLOB, BLOB)
        book.reassign(NAMES)
        yield book


def run(*arguments: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, ["cloud", *arguments, "--config", "cloud.toml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_rollout_from_the_command_line(tasks: TaskBook) -> None:
    """Begun, listed, paused, resumed, stopped; the stop and its reason are shown, for people and as JSON."""
    said = run("task", "roll-out", "calmer", "--recipe", "learning_rate=0.02", "--policy", "least_battery=0.5",
               "--tag", "shop=berlin", "--board", "Raspberry*", "--stages", "10,100", "--least-hours", "2")  # fmt: skip
    assert "first 10% of 100% on Raspberry* tagged shop=berlin" in said
    listed = json.loads(run("task", "list", "--json"))
    assert listed["everyone"] == {"version": 1, "devices": 12}
    assert listed["rollouts"][0]["changes"] == "learning_rate=0.02, policy.least_battery=0.5"
    assert "everyone         version 1, 12 devices" in run("task", "list")
    for command in ("pause", "resume", "stop"):
        assert "calmer" in run("task", command, "calmer")
    shown = run("task", "show", "calmer")
    assert "calmer is stopped at 10%: by hand" in shown
    assert "the rest     0 reported, 0 failed, 0 of 0 refused" in shown
    history = json.loads(run("task", "show", "calmer", "--json"))["history"]
    assert [change["state"] for change in history] == ["running", "paused", "running", "stopped"]
    assert tasks.layers.on() == []


def test_devices_are_listed_tagged_and_told_of(tasks: TaskBook, tmp_path: Path) -> None:
    """What a device holds and is called, and its rounds with what they cost; what is not measured says why."""
    record = {
        "outcome": {"decision": "activated", "reason": "it ranks better", "metrics": {}},
        "totals": {"elapsed_s": 12.5, "mqtt_up_bytes": 1000, "mqtt_down_bytes": 90_000, "energy_mj": None},
        "unmeasured": {"energy": "this board has no counter"},
    }
    with closing(Ledger(tmp_path / "state")) as ledger:
        ledger.note_hello("kiosk-1", Hello("coda 0.1", "tflite", "Raspberry Pi 5", ("c" * 64,)))
        ledger.note_presence("kiosk-1", online=True)
        ledger.add_report("kiosk-1", Report("r1", 1, record), "m1")
    assert run("tag", "kiosk-1", "shop=berlin", "line=2") == "kiosk-1: line=2 shop=berlin\n"
    assert run("tag", "kiosk-1", "--remove", "line") == "kiosk-1: shop=berlin\n"
    one = json.loads(run("devices", "kiosk-1", "--json"))
    assert (one["online"], one["task"], one["rollout"], one["tags"]) == (True, 1, None, ["shop=berlin"])
    assert (one["rounds"][0]["mqtt_bytes"], one["rounds"][0]["energy_j"]) == (91_000, None)
    shown = run("devices", "kiosk-1")
    assert "12.5 s  91,000 bytes  energy not measured" in shown
    assert "no energy of the last round: this board has no counter" in shown
    assert "holds cccccccccccc" in shown
    assert len(run("devices").splitlines()) == len(NAMES)
    with pytest.raises(UsageError, match="no device 'kiosk-99'"):
        run("devices", "kiosk-99")
    assert tasks.tags.of("kiosk-1") == ("shop=berlin",)


def test_an_experiment_from_the_command_line(tasks: TaskBook, tmp_path: Path) -> None:
    """Arms as they are written, their devices by hash, and what too few of them say."""
    run("experiment", "start", "pull", "--arm", "near:recipe.proximal=0.01", "--arm",
        "far:recipe.proximal=0.1,policy.least_battery=0.2,weight=2", "--least-devices", "4")  # fmt: skip
    given = tasks.reassign()
    with closing(Ledger(tmp_path / "state")) as ledger:
        for device, task in given[:5]:
            metrics = {"holdout_ranking_gain": 0.01}
            record = {"outcome": {"decision": "activated", "metrics": metrics}}
            ledger.add_report(device, Report("r", task.version, record), "m")
    (listed,) = json.loads(run("experiment", "list", "--json"))
    assert listed["arms"] == {
        "control": "nothing", "near": "proximal=0.01", "far": "proximal=0.1, policy.least_battery=0.2"
    }  # fmt: skip
    assert "pull             running  100%: control, near, far" in run("experiment", "list")
    found = json.loads(run("experiment", "show", "pull", "--json"))
    assert found["primary"] == "ranking_gain_nats"
    assert sum(arm["reported"] for arm in found["arms"]) == 5
    assert found["verdict"].startswith("Too early: 4 devices")
    shown = run("experiment", "show", "pull")
    assert "Too early" in shown
    assert "ranking_gain_nats" in shown
    assert (
        "pull is stopped"
        in CliRunner().invoke(app, ["cloud", "experiment", "stop", "pull", "--config", "cloud.toml"]).output
    )


@pytest.mark.parametrize(
    "wrong",
    [
        ("task", "roll-out", "x", "--recipe", "steps=7", "--stages", "one"),
        ("experiment", "start", "x", "--arm", "a:steps=7"),
        ("experiment", "start", "x", "--arm", "a:recipe.steps=7,weight=heavy"),
    ],
)
def test_what_cannot_be_read_is_told(tasks: TaskBook, wrong: tuple[str, ...]) -> None:
    """As wrong use of the command, and nothing begins."""
    with pytest.raises(UsageError):
        run(*wrong)
    assert tasks.layers.on() == []
