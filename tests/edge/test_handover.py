"""Which release runs next, whatever was cut where; and the database of before a trial."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.storage.store_copy import keep_copy, restore
from edge.updates.handover import choose, finish_rolling_back, roll_back
from edge.updates.release_state import (
    BACK,
    COMPLETE,
    INCONCLUSIVE,
    INTERRUPTED,
    MAX_STARTS,
    ROLLED_BACK,
    TRIAL,
    ReleaseFolder,
    UpdateState,
)

OLD, NEW = "r1-" + "a" * 12, "r2-" + "b" * 12
SHA256 = "b" * 64


class CutError(BaseException):
    """The power is cut."""


@contextmanager
def power_cut(before: int) -> Iterator[list[int]]:
    """Cut the power before the change of that number; how many there were is in the list."""
    count = [0]

    def cutting(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            count[0] += 1
            if count[0] == before:
                raise CutError
            return change(*arguments, **named)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink", "symlink_to"):
            patch.setattr(Path, name, cutting(getattr(Path, name)))
        patch.setattr(os, "fsync", cutting(os.fsync))
        yield count


@pytest.fixture
def folder(tmp_path: Path) -> ReleaseFolder:
    """A device whose release 1 runs, and whose release 2 is installed."""
    made = ReleaseFolder(tmp_path)
    for name in (OLD, NEW):
        python = made.python(name)
        python.parent.mkdir(parents=True)
        python.touch(mode=0o700)
        (made.folder(name) / COMPLETE).touch()
        (made.folder(name) / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {platform.python_version()}\n")
    made.switch(OLD)
    return made


def _on_trial(folder: ReleaseFolder) -> UpdateState:
    state = UpdateState(stage=TRIAL, offer=3, target="x.tar", sha256=SHA256, number=2, release=NEW, previous=OLD)
    folder.write(state)
    folder.switch(NEW)
    return state


def test_a_release_on_trial_is_started_so_often(folder: ReleaseFolder) -> None:
    """Each start is counted before it happens; then the one before runs, and the reason has the last words."""
    _on_trial(folder)
    folder.log.write_text("Traceback\n  File\nImportError: no module named sense\n")
    assert [choose(folder) for _ in range(MAX_STARTS + 2)] == [NEW] * MAX_STARTS + [OLD] * 2
    state = folder.read()
    assert (state.stage, state.outcome, folder.current()) == (None, ROLLED_BACK, OLD)
    assert "started 2 times" in state.reason
    assert "no module named sense" in state.failed[SHA256]
    assert state.last["offer"] == 3


def test_the_flashed_software_is_what_there_was_before_the_first(folder: ReleaseFolder) -> None:
    """A first release that fails leads back to no release at all."""
    state = _on_trial(folder)
    state.previous, state.starts = None, MAX_STARTS
    folder.write(state)
    assert choose(folder) is None
    assert folder.current() is None


def test_a_trial_ends_on_the_old_version_wherever_it_is_cut(folder: ReleaseFolder) -> None:
    """Before each change that switching, counting and rolling back make: the next starts find their way, and why."""
    changes = 0
    while True:
        changes += 1
        for path in (folder.path / "state.json", folder.path / "state.new"):
            path.unlink(missing_ok=True)
        folder.switch(OLD)
        try:
            with power_cut(changes):
                _on_trial(folder)
                for _ in range(MAX_STARTS + 1):
                    choose(folder)
        except CutError:
            started = [choose(folder) for _ in range(MAX_STARTS + 2)]
            assert started[-1] == OLD
            assert set(started) <= {OLD, NEW}
            assert started.count(NEW) <= MAX_STARTS
            state = folder.read()
            assert (state.stage, folder.current()) == (None, OLD)
            assert state.outcome in ("", INTERRUPTED, ROLLED_BACK)
            assert bool(state.outcome) == bool(state.offer)  # without a word of the offer, nothing had begun
        else:
            break
    assert changes > 15


def test_an_end_without_a_verdict_is_no_failure(folder: ReleaseFolder) -> None:
    """The release before runs, and the other is on no list: it may be tried again."""
    roll_back(folder, _on_trial(folder), "the broker was away", INCONCLUSIVE)
    state = folder.read()
    assert (state.stage, state.outcome, state.failed, folder.current()) == (None, INCONCLUSIVE, {}, OLD)
    assert choose(folder) == OLD


def test_a_cut_before_the_switch_is_no_failure(folder: ReleaseFolder) -> None:
    """The release is not on the list of those that failed, and may be tried again."""
    folder.write(UpdateState(stage=TRIAL, sha256=SHA256, release=NEW, previous=OLD))
    assert choose(folder) == OLD
    assert (folder.read().outcome, folder.read().failed) == (INTERRUPTED, {})


def test_a_release_whose_files_are_gone_is_not_started(folder: ReleaseFolder) -> None:
    """On trial it is rolled back; else the flashed software runs."""
    _on_trial(folder)
    (folder.folder(NEW) / COMPLETE).unlink()
    assert choose(folder) == OLD
    assert "not whole" in folder.read().reason
    folder.python(OLD).unlink()
    assert choose(folder) is None


def test_a_release_of_another_python_is_not_started(folder: ReleaseFolder) -> None:
    """As after the board's image was replaced: the flashed software runs, which came with the new Python."""
    (folder.folder(OLD) / "pyvenv.cfg").write_text("version = 3.9.2\n")
    assert choose(folder) is None


def test_a_disk_that_takes_nothing_starts_no_trial(folder: ReleaseFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be counted is not tried; what runs already goes on."""
    _on_trial(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ReleaseFolder, "write", full)
    assert choose(folder) == OLD
    folder.switch(OLD)
    assert choose(folder) == OLD


@pytest.mark.parametrize("text", ["", "{", "[]", '{"starts": "two", "stage": 7}', '{"failed": [1]}'])
def test_a_damaged_state_is_that_of_no_update(folder: ReleaseFolder, text: str) -> None:
    """The link alone says what runs."""
    (folder.path / "state.json").write_text(text)
    assert folder.read() == UpdateState()
    assert choose(folder) == OLD


@pytest.mark.parametrize("name", ["../../bin", "r1", "r1-xyz", "/etc", ""])
def test_a_link_to_elsewhere_is_not_followed(folder: ReleaseFolder, name: str) -> None:
    """Only releases are started from there."""
    with pytest.raises(ValueError, match="no release's name"):
        folder.folder(name)
    if name:
        folder.switch(None)
        (folder.path / "current").symlink_to(name)
        assert choose(folder) is None


def _database(state_dir: Path, layout: int) -> None:
    with closing(sqlite3.connect(state_dir / "device.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA user_version={layout}")
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n)")
        connection.execute("INSERT INTO kept VALUES (?)", (layout,))
        connection.commit()


def _layout(state_dir: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(state_dir / "device.db")) as connection:
        version, rows = (
            connection.execute(q).fetchone()[0] for q in ("PRAGMA user_version", "SELECT count(*) FROM kept")
        )
        return int(version), int(rows)


def test_a_database_of_a_later_layout_goes_back_with_the_release(folder: ReleaseFolder) -> None:
    """The old version could not read it; it finds what it left, and the reason says so."""
    _database(folder.state_dir, 4)
    keep_copy(folder.state_dir, folder.database_copy)
    state = _on_trial(folder)
    _database(folder.state_dir, 5)
    roll_back(folder, state, "it failed")
    assert _layout(folder.state_dir) == (4, 1)
    assert "the database is that of before the trial" in folder.read().reason


def test_a_database_of_the_same_layout_stays(folder: ReleaseFolder) -> None:
    """What was told during the trial is not lost for nothing."""
    _database(folder.state_dir, 4)
    keep_copy(folder.state_dir, folder.database_copy)
    _database(folder.state_dir, 4)
    assert not restore(folder.state_dir, folder.database_copy)
    assert _layout(folder.state_dir) == (4, 2)


def test_a_database_is_put_back_wherever_that_is_cut(folder: ReleaseFolder) -> None:
    """Rolling back again finishes it."""
    changes = 0
    while True:
        changes += 1
        for path in folder.state_dir.glob("device.*"):
            path.unlink()
        _database(folder.state_dir, 4)
        keep_copy(folder.state_dir, folder.database_copy)
        state = _on_trial(folder)
        _database(folder.state_dir, 5)
        try:
            with power_cut(changes):
                roll_back(folder, state, "it failed")
        except CutError:
            found = folder.read()
            if found.stage == BACK:
                finish_rolling_back(folder, found)
                assert _layout(folder.state_dir) == (4, 1)
        else:
            break
    assert changes > 6


def test_the_hand_over_needs_the_standard_library_alone() -> None:
    """It runs before anything that a release could have broken, or that costs memory, is loaded."""
    heavy = "('numpy', 'msgpack', 'protocol', 'paho')"
    code = f"import sys, edge.updates.handover; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_configuration_that_cannot_be_read_is_the_service_to_tell(tmp_path: Path) -> None:
    """The flashed software runs, and says what is wrong."""
    command = [sys.executable, "-m", "edge.updates.handover", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "none.toml: No such file" in done.stderr
