"""`python -m edge.updates.handover`: starts the release of software that is to run, and goes back to the one before.

The software that a board was flashed with is never changed; its `coda edge run` comes here. A release on trial is
counted before it is started, on disk, so that whatever ends it (a crash at its first import, the watchdog, the power)
ends at most `MAX_STARTS` starts; then the release before it runs again, and says why. The standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.storage.store_copy import restore
from edge.updates.release_state import BACK, INTERRUPTED, MAX_STARTS, ROLLED_BACK, TRIAL, ReleaseFolder, UpdateState

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

# What the started program is told. The first says that there is somebody to hand over to, and who.
BASE_VARIABLE = "CODA_BASE_PYTHON"
RELEASE_VARIABLE = "CODA_RELEASE"
STDERR_VARIABLE = "CODA_TRIAL_STDERR"  # the descriptor of the real standard error, while a log takes its place


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the service, of the release that is to run. Does not return."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    environment = {name: value for name, value in os.environ.items() if name not in (RELEASE_VARIABLE, STDERR_VARIABLE)}
    environment[BASE_VARIABLE] = sys.executable
    state_dir = _state_dir(given)
    release = None if state_dir is None else choose(ReleaseFolder(state_dir))
    if state_dir is None or release is None:
        os.execve(sys.executable, [sys.executable, "-m", "edge", *given], environment)  # noqa: S606 - no shell
    folder = ReleaseFolder(state_dir)
    environment[RELEASE_VARIABLE] = release
    if folder.read().stage == TRIAL:
        _log_standard_error(folder, environment)
    python = str(folder.python(release))
    # -I: nothing but its own packages, whatever the folder that it is started in or the environment say.
    os.execve(python, [python, "-I", "-m", "edge", *given], environment)  # noqa: S606


def hand_over(arguments: Sequence[str] | None = None) -> None:
    """Make way, in this process, for the release that is to run now. Does not return."""
    restore_standard_error()
    base = os.environ[BASE_VARIABLE]
    given = sys.argv[1:] if arguments is None else arguments
    os.execv(base, [base, "-m", "edge.updates.handover", *given])  # noqa: S606 - no shell


def restore_standard_error() -> None:
    """Let standard error be the real one again, if a log took its place."""
    real = os.environ.pop(STDERR_VARIABLE, "")
    if real.isdecimal():
        sys.stderr.flush()
        os.dup2(int(real), 2)
        os.close(int(real))


def choose(folder: ReleaseFolder) -> str | None:
    """The release to start now; None for the software that the board was flashed with. Notes the start, if on trial.

    What the disk refuses to take note of is not tried: the release before, or else that of the board, runs.
    """
    try:
        return _choose(folder, folder.read())
    except OSError as error:
        sys.stderr.write(f"coda: releases in {folder.path}: {error}\n")
        state, current = folder.read(), folder.current()
        return _startable(folder, state.previous if current == state.release and state.stage == TRIAL else current)


def _choose(folder: ReleaseFolder, state: UpdateState) -> str | None:
    if state.stage == TRIAL:
        if folder.current() != state.release:  # the power was cut before the link was switched
            state.stage = None
            state.end(INTERRUPTED, "the device stopped before it had switched to the release; it is tried again")
            folder.write(state)
        elif state.starts >= MAX_STARTS or not folder.is_whole(state.release):
            roll_back(folder, state, _why_not(folder, state))
        else:
            state.starts += 1
            folder.write(state)
            return state.release
    if state.stage == BACK:
        finish_rolling_back(folder, state)
    return _startable(folder, folder.current())


def roll_back(folder: ReleaseFolder, state: UpdateState, reason: str, outcome: str = ROLLED_BACK) -> None:
    """Have the release before run again; the reason is kept for the cloud.

    Args:
        folder: The device's releases.
        state: How far the update is.
        reason: Why.
        outcome: `ROLLED_BACK`, and this bundle is never tried here again, or `INCONCLUSIVE`, and it may be.

    Raises:
        OSError: If the disk fails.
    """
    state.stage = BACK
    state.end(outcome, reason, lasting=outcome == ROLLED_BACK)
    folder.write(state)  # first, so that a cut before the link is switched does not lose why
    finish_rolling_back(folder, state)


def finish_rolling_back(folder: ReleaseFolder, state: UpdateState) -> None:
    """Put the database and the link back; done again after a cut, it changes nothing."""
    if restore(folder.state_dir, folder.database_copy):
        state.reason += "; the database is that of before the trial, as the release had changed its layout"
        state.last["reason"] = state.reason
    folder.switch(state.previous)
    state.stage = None
    folder.write(state)
    sys.stderr.write(f"coda: release {state.release} is rolled back: {state.reason}\n")


def _why_not(folder: ReleaseFolder, state: UpdateState) -> str:
    if not folder.is_whole(state.release):
        return "its files are not whole"
    said = folder.last_words()
    reason = f"it was started {state.starts} times and ended, or was ended, before it had proved itself"
    return f"{reason}; the last it said: {said}" if said else reason


def _startable(folder: ReleaseFolder, name: str | None) -> str | None:
    """A release, or what there is instead where its files are gone."""
    if name is None or folder.is_whole(name):
        return name
    sys.stderr.write(f"coda: release {name} is not whole; the software that the board was flashed with runs\n")
    return None


def _log_standard_error(folder: ReleaseFolder, environment: dict[str, str]) -> None:
    """Let what the release says while on trial go to a file, from which a reason for its end is told."""
    with contextlib.suppress(OSError):
        real = os.dup(2)
        log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(log, 2)
        os.close(log)
        os.set_inheritable(real, True)
        environment[STDERR_VARIABLE] = str(real)


def _state_dir(arguments: Sequence[str]) -> Path | None:
    """Where the device's state is; None where the arguments or the file do not say, which the service then tells."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--config", type=Path)
    try:
        config: Path | None = parser.parse_known_args(list(arguments))[0].config
        if config is None:
            return None
        with config.open("rb") as file:
            found = tomllib.load(file).get("state_dir")
    except (OSError, ValueError, argparse.ArgumentError):
        return None
    return config.parent / Path(found).expanduser() if isinstance(found, str) and found else None


if __name__ == "__main__":
    main()
