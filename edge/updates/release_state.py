"""Where releases of the software lie on a device, and how far an update is.

The standard library alone: it is used before anything else is loaded, by a program that may be years older than the
release that runs.

{state_dir}/releases/current       a link to the release that runs; without it, the one that the board was flashed with
{state_dir}/releases/{name}/       a release: a virtual environment; whole once its ``.complete`` is there
{state_dir}/releases/state.json    how far an update is
{state_dir}/releases/trial.log     what the release on trial wrote on standard error
{state_dir}/releases/canary.npz    samples, and how they ranked, while a release is on trial
{state_dir}/releases/device.db     the device's database as it was before the trial

Every change is atomic and on disk before the next is begun, so that the power may be cut between any two.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hardware.durable import sync

FORMAT = 1
MAX_STARTS = 2  # of a release on trial that does not prove itself
MAX_AWAY_STARTS = 10  # of one that could not, as the broker was away
MAX_KEPT_FAILURES = 32
COMPLETE = ".complete"
_NAME = re.compile(r"r[0-9]{1,12}-[0-9a-f]{12}")

DOWNLOAD, INSTALL, TRIAL, BACK = "download", "install", "trial", "back"
ROLLED_BACK, INTERRUPTED, INCONCLUSIVE = "rolled-back", "interrupted", "inconclusive"


@dataclass
class UpdateState:
    """How far an update is.

    Attributes:
        stage: `DOWNLOAD`, `INSTALL`, `TRIAL` or `BACK` (to be rolled back); None where none goes on.
        offer: Number of the offer that it is of.
        target: What was offered.
        sha256: Digest of its bundle.
        number: The release's number, as signed.
        release: Name of its folder.
        previous: Name of the folder that ran before; None for the software that the board was flashed with.
        same_ranking: Whether it has to rank as the one before.
        starts: How often it was started on trial, but for starts after which it waited for a broker that was away.
        away_starts: How often it was started and waited so.
        attempts: How often the present stage was begun.
        outcome: What came of an update and is not yet on its way to the cloud; "" for nothing.
        reason: Why.
        highest: The highest number of a release that proved itself here.
        failed: Why releases failed, by the digest of their bundle.
        last: What came of the last update, for whoever looks: offer, target, outcome, reason.
    """

    stage: str | None = None
    offer: int = 0
    target: str = ""
    sha256: str = ""
    number: int = 0
    release: str = ""
    previous: str | None = None
    same_ranking: bool = True
    starts: int = 0
    away_starts: int = 0
    attempts: int = 0
    outcome: str = ""
    reason: str = ""
    highest: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)

    def end(self, outcome: str, reason: str, *, lasting: bool = False) -> None:
        """Note what came of the update; ``lasting``: this bundle is not to be tried again."""
        self.outcome, self.reason = outcome, reason
        self.last = {"offer": self.offer, "target": self.target, "outcome": outcome, "reason": reason}
        if lasting and self.sha256:
            self.failed[self.sha256] = reason
            self.failed = dict(list(self.failed.items())[-MAX_KEPT_FAILURES:])


class ReleaseFolder:
    """A device's releases."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "releases"
        self.state_dir = state_dir
        self.log = self.path / "trial.log"
        self.database_copy = self.path / "device.db"
        self.canary = self.path / "canary.npz"
        self._state = self.path / "state.json"
        self._current = self.path / "current"

    def folder(self, name: str) -> Path:
        """Where a release lies, or will.

        Raises:
            ValueError: If it is no release's name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no release's name")
        return self.path / name

    def python(self, name: str) -> Path:
        """A release's interpreter."""
        return self.folder(name) / "bin" / "python"

    def is_whole(self, name: str) -> bool:
        """Whether a release was installed to its end, and can be started by this Python's like."""
        folder = self.folder(name)
        return (
            (folder / COMPLETE).is_file() and os.access(self.python(name), os.X_OK) and _is_ours(folder / "pyvenv.cfg")
        )

    def current(self) -> str | None:
        """The release that is to run; None for the software that the board was flashed with."""
        try:
            name = str(self._current.readlink())
        except OSError:
            return None
        return name if _NAME.fullmatch(name) else None

    def switch(self, name: str | None) -> None:
        """Have another release run from the next start on: the link is the old one or the new one, never none.

        Raises:
            OSError: If the disk fails.
        """
        if name is None:
            self._current.unlink(missing_ok=True)
        else:
            temporary = self.path / ".current"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(self.folder(name).name)
            temporary.replace(self._current)
        sync(self.path)

    def read(self) -> UpdateState:
        """How far an update is; a file that cannot be read is that of a device without one."""
        try:
            values = json.loads(self._state.read_text(encoding="utf-8"))
            return UpdateState(**{f.name: values[f.name] for f in fields(UpdateState) if _fits(f, values)})
        except (OSError, ValueError, TypeError):
            return UpdateState()

    def write(self, state: UpdateState) -> None:
        """Put it on disk.

        Raises:
            OSError: If the disk fails.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._state.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, **asdict(state)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._state)
        sync(self.path)

    def last_words(self, characters: int = 400) -> str:
        """The end of what the release on trial wrote on standard error."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return " | ".join(lines[-3:])[-characters:]


def _is_ours(environment: Path) -> bool:
    """Whether an environment is of this Python's version: another image may have brought another one."""
    try:
        lines = environment.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    stated = [line.partition("=")[2].strip() for line in lines if line.startswith("version")]
    return bool(stated) and stated[0].split(".")[:2] == [str(part) for part in sys.version_info[:2]]


def _fits(known: Field[Any], values: dict[str, Any]) -> bool:
    """Whether a file has a value for a field, of its type; another program's file may lack some."""
    types: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "str": (str,),
        "bool": (bool,),
        "str | None": (str, type(None)),
    }
    return known.name in values and isinstance(values[known.name], types.get(str(known.type), (dict,)))
