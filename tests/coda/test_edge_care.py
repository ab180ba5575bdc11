"""`coda edge status | doctor | rounds | logs | forget | reset`."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from coda.cli import app
from coda.errors import UsageError
from edge.errors import StoreBusyError
from edge.feedback.events import Event, EventKind
from edge.feedback.labelling import EventRules
from edge.local_api.api import Api
from edge.local_api.ranker import Ranker
from edge.local_api.server import Server
from edge.local_api.turnstile import Turnstile
from edge.storage.store import Store
from edge.updates.release_state import ReleaseFolder, UpdateState
from profiling.record import Outcome, PhaseRecord, RoundRecord
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from tests.edge.samples import SCHEMA, samples

RULES = EventRules()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A device with a finished round, samples and a log."""
    with Store(tmp_path / "state") as store:
        blob = BlobRef("a" * 64, 10)
        stored = store.rounds.begin(Task(3, SCHEMA.to_dict(), Recipe().to_dict(), blob, blob), "sync")
        store.rounds.serve(blob.sha256, stored.round_id, None)
        outcome = Outcome("kept-h0", "no gain", 1, 2, 3)
        phases = (PhaseRecord("sync", 1.25, 0.5, 0.1), PhaseRecord("tune", 1.0, 0.5, 0.1))
        record = RoundRecord(stored.round_id, "d", 3, 1e9, {}, {}, phases, outcome)
        store.rounds.close(stored.round_id, "done", record)
        store.samples.add(samples(7))
        store.log.write({"event": "decision", "act": False, "reasons": {"power": "battery at 10%, 30% are needed"}})
        store.log.write({"event": "offline", "reason": "no broker"})
    files = "".join(f'{name}_file = "{name}.pem"\n' for name in ("ca", "cert", "key"))
    path = tmp_path / "device.toml"
    path.write_text(f'device = "d"\nfleet = "f"\nhost = "localhost"\nport = 1\nstate_dir = "state"\n{files}')
    return path


def _result(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["edge", *map(str, arguments)], catch_exceptions=False)


def _run(*arguments: str | Path) -> str:
    result = _result(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_status_tells_what_the_device_does(config: Path) -> None:
    """In words and as JSON, beside a process that holds the store."""
    with Store(config.parent / "state") as store:
        store.events.add([Event(EventKind.CLICK, 2, 10)], None, RULES)
        found = json.loads(_run("status", "--config", config, "--json"))
        words = _run("status", "--config", config)
    assert (found["model"], found["personal"], found["samples"], found["new_samples"]) == ("a" * 12, False, 7, 7)
    assert (found["waiting_events"], found["rounds"], found["unfinished_round"]) == (1, 1, None)
    assert found["last_round"]["decision"] == "kept-h0"
    assert (found["samples_made"], found["samples_retired"]) == (7, {"age": 0, "size": 0, "number": 0})
    assert re.fullmatch(r"\d+ MiB free", found["disk"])
    assert re.search(r"^disk        \d+ MiB free$", words, re.MULTILINE)  # others write to it in between
    assert "must not train (power: battery at 10%, 30% are needed)" in words


def test_rounds_tells_what_was_done(config: Path) -> None:
    """One line a round; whole records as JSON."""
    words = _run("rounds", "--config", config)
    assert "2001-09-09 01:46:40 UTC  task   3      2.25 s  kept-h0  no gain" in words
    (record,) = json.loads(_run("rounds", "--config", config, "--json"))
    assert record["outcome"]["samples_matched"] == 2


def test_logs_can_be_chosen_by_event(config: Path) -> None:
    """The newest last; a line that a power cut spoilt is passed over."""
    log = config.parent / "state/events.jsonl"
    log.write_text(log.read_text() + '{"event": "decision", "unix_s": "?"}\n{"event": "off')
    assert [line.split()[2] for line in _run("logs", "--config", config).splitlines()] == ["decision", "offline"]
    assert "no broker" in _run("logs", "--config", config, "--last", "1")
    found = json.loads(_run("logs", "--config", config, "--event", "decision", "--json"))
    assert found["act"] is False


def test_doctor_ends_with_1_where_something_is_wrong(config: Path) -> None:
    """Here there is neither a certificate nor a broker."""
    result = _result("doctor", "--config", config)
    assert result.exit_code == 1
    assert "BAD certificate" in result.stdout
    assert "-> enrol the device again" in result.stdout
    found = {one["check"]: one["ok"] for one in json.loads(_result("doctor", "--config", config, "--json").stdout)}
    assert (found["certificate"], found["store"], found["runtime"]) == (False, True, True)


def test_forget_asks_first(config: Path) -> None:
    """No is no; yes forgets, and queues the request to the cloud."""
    refused = CliRunner().invoke(app, ["edge", "forget", "--config", str(config)], input="n\n")
    assert refused.exit_code != 0
    with Store(config.parent / "state") as store:
        assert store.samples.count == 7
    assert json.loads(_run("forget", "--config", config, "--yes"))["samples"] == 7
    with Store(config.parent / "state") as store:
        assert store.samples.count == 0
        assert [letter.kind for letter in store.outbox.pending()] == ["forget"]


def test_forget_beside_a_running_service_goes_through_its_api(config: Path) -> None:
    """And without an API it says to stop the service."""
    socket = config.parent / "api.sock"
    with Store(config.parent / "state") as store:
        with pytest.raises(UsageError, match="stop it"):
            _run("forget", "--config", config, "--yes")
        config.write_text(config.read_text() + f'[api]\nsocket = "{socket.name}"\n')
        api = Api(store, RULES, Ranker(store, RULES, None, 1), Turnstile())
        with Server(api.answer, socket, None):
            assert json.loads(_run("forget", "--config", config, "--yes"))["samples"] == 7
        assert store.samples.count == 0


def test_reset_deletes_all_but_never_under_a_running_service(config: Path) -> None:
    """Also what cannot be opened any more."""
    state = config.parent / "state"
    with Store(state), pytest.raises(StoreBusyError):
        _run("reset", "--config", config, "--yes")
    (state / "device.db").write_bytes(b"damaged")
    releases = ReleaseFolder(state)
    releases.write(UpdateState())
    for kept in (releases.canary, releases.database_copy):  # samples of the user's
        kept.write_bytes(b"while a release is on trial")
    _run("reset", "--config", config, "--yes")
    assert sorted(path.name for path in state.iterdir()) == ["blobs", "lock", "releases"]
    assert [path.name for path in releases.path.iterdir()] == ["state.json"]
    with Store(state) as store:
        assert store.samples.count == 0


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        ("UPDATE serving SET weights = 'abc'", {"model", "personal"}),
        ("UPDATE counters SET value = 'x'", {"new_samples", "samples_made", "samples_retired"}),
        ("INSERT INTO rounds VALUES ('r', 9, 'abc', 'sync', 0, 'x', NULL)", {"unfinished_round"}),
        ("INSERT INTO rounds VALUES ('r', 9, x'00', 'sync', 0, 0, NULL)", {"unfinished_round"}),
        ("UPDATE rounds SET record = replace(record, '1000000000.0', '1e300')", {"last_round"}),
        ("UPDATE rounds SET record = 5.5", set()),
    ],
)
def test_status_shows_what_is_not_damaged(config: Path, damage: str, names: set[str]) -> None:
    """A value of another type hides no other, and is told with its reason; so does a log without sense."""
    with (config.parent / "state/events.jsonl").open("a") as log:
        log.write('{"unix_s": 1, "event": "decision", "act": 1, "reasons": [1]}\n{"unix_s": 1, "event": "decision"}\n')
    with closing(sqlite3.connect(config.parent / "state/device.db")) as rows:
        rows.execute(damage)
        rows.commit()
    found = json.loads(_run("status", "--config", config, "--json"))
    assert set(found["damaged"]) == names
    assert all(found["damaged"].values())
    assert (found["samples"], found["policy"]["reasons"]) == (7, {"power": "battery at 10%, 30% are needed"})
    words = _run("status", "--config", config)
    assert words.count("cannot be read: ") == len(names - {"personal", "samples_made", "samples_retired"})
    assert "must not train" in words


def test_an_update_that_is_not_whole_is_told(config: Path) -> None:
    """By the file, and what it lacks; the rest is shown."""
    folder = ReleaseFolder(config.parent / "state")
    folder.write(UpdateState(last={"offer": 1}))
    words = _run("status", "--config", config)
    assert re.search(r"software +software cannot be read: .*state.json: .* lacks outcome, reason, target", words)
    assert "7, 7 since the last round" in words


def test_status_and_doctor_tell_what_came_of_an_update(config: Path) -> None:
    """A release that failed is a fault, with the reason, and what runs instead; a good one is none."""
    folder = ReleaseFolder(config.parent / "state")
    assert "as flashed; no release was offered yet" in _run("status", "--config", config)
    state = UpdateState(offer=1, target="pi5.tar", sha256="a" * 64)
    state.end("rolled-back", "it ranks with scores that are no numbers", lasting=True)
    folder.write(state)
    assert "pi5.tar: rolled-back, it ranks with scores" in _run("status", "--config", config)
    told = json.loads(_result("doctor", "--json", "--config", config).stdout)[-1]
    assert (told["check"], told["ok"], "coda release status" in told["advice"]) == ("update", False, True)
    state.end("installed", "ranked")
    folder.write(state)
    assert json.loads(_result("doctor", "--json", "--config", config).stdout)[-1]["ok"] is True
