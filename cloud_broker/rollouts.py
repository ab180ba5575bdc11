"""Which devices are offered which release, and what came of it; a rollout that fails too often halts by itself.

{directory}/rollouts.sqlite

An operator's command and the workers use it side by side. The newest rollout is the one that counts.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from cloud_broker.database import Database
from cloud_broker.errors import ReleaseError
from protocol.messages import BlobRef, Release, Updated
from protocol.releases import BAD_OUTCOMES

ON, HALTED = "on", "halted"
_TABLES = """
CREATE TABLE IF NOT EXISTS rollout (
    number INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, metadata_sha256 TEXT NOT NULL,
    metadata_bytes INTEGER NOT NULL, bundle_sha256 TEXT NOT NULL, cohort TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '', made_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS told (
    device TEXT PRIMARY KEY, number INTEGER NOT NULL, offered INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcome (
    device TEXT NOT NULL, number INTEGER NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, running TEXT NOT NULL,
    received_s REAL NOT NULL, PRIMARY KEY (device, number)
) WITHOUT ROWID;
"""
_NEWEST = (
    "SELECT number, target, metadata_sha256, metadata_bytes, bundle_sha256, cohort, state, reason FROM rollout"
    " ORDER BY number DESC LIMIT 1"
)
_INSERT = (
    "INSERT INTO rollout (target, metadata_sha256, metadata_bytes, bundle_sha256, cohort, state, made_s)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Whom a rollout is for: a device that fits all of these.

    Attributes:
        percent: Of the fleet; the same devices for the same bundle, and those of a smaller share among a larger.
        devices: Only these, if any is named.
        board: Only boards whose name matches this pattern, such as ``Raspberry Pi 5*``.
        most_failures: With more devices on which it failed, the rollout halts.
    """

    percent: float = 100.0
    devices: tuple[str, ...] = ()
    board: str = "*"
    most_failures: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise ReleaseError(f"{self.percent:g} percent of a fleet: above 0, at most 100")
        if self.most_failures < 0:
            raise ReleaseError(f"{self.most_failures} failures at most: a rollout takes none, or some")

    def has(self, device: str, board: str, bundle_sha256: str) -> bool:
        """Whether a device is in it."""
        if self.devices and device not in self.devices:
            return False
        digest = hashlib.sha256(f"{bundle_sha256}/{device}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / (1 << 64)
        return share < self.percent / 100 and fnmatchcase(board, self.board)


@dataclass(frozen=True)
class Rollout:
    """A release on its way to devices.

    Attributes:
        number: Rises with each.
        target: The release's name.
        metadata: What vouches for it.
        bundle_sha256: Its bundle.
        cohort: Whom it is for.
        state: `ON` or `HALTED`.
        reason: Why it halted.
    """

    number: int
    target: str
    metadata: BlobRef
    bundle_sha256: str
    cohort: Cohort
    state: str
    reason: str


class Rollouts:
    """The newest rollout, whom it was offered to, and what they said; safe to use from several threads."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open what is under ``directory``, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = Database(directory / "rollouts.sqlite", _TABLES)
        self._clock = clock
        self._seen: tuple[int, str] | None = None

    def begin(self, target: str, metadata: BlobRef, bundle_sha256: str, cohort: Cohort) -> Rollout:
        """Offer a release from now on, and none that was offered before."""
        plain = json.dumps(vars(cohort))
        row = (
            target,
            metadata.sha256,
            metadata.size_bytes,
            bundle_sha256,
            plain,
            ON,
            self._clock(),
        )
        with self._database.transaction() as database:
            database.execute(_INSERT, row)
        made = self.newest()
        assert made is not None
        return made

    def halt(self, reason: str) -> Rollout:
        """Offer the newest release to nobody any more.

        Raises:
            ReleaseError: If there is none.
        """
        newest = self.newest()
        if newest is None:
            raise ReleaseError("no release was offered yet")
        with self._database.transaction() as database:
            database.execute(
                "UPDATE rollout SET state = ?, reason = ? WHERE number = ?",
                (HALTED, reason, newest.number),
            )
        return newest

    def newest(self) -> Rollout | None:
        """The newest rollout; None before the first."""
        rows = self._database.rows(_NEWEST)
        if not rows:
            return None
        number, target, sha256, size_bytes, bundle, cohort, state, reason = rows[0]
        values = json.loads(cohort)
        whom = Cohort(**{**values, "devices": tuple(values["devices"])})
        return Rollout(number, target, BlobRef(sha256, size_bytes), bundle, whom, state, reason)

    def for_device(self, device: str, board: str) -> Release | None:
        """What to tell a device that it was not told yet; None for nothing."""
        newest = self.newest()
        if newest is None:
            return None
        told = self._database.rows("SELECT number, offered FROM told WHERE device = ?", device)
        offered = newest.state == ON and newest.cohort.has(device, board, newest.bundle_sha256)
        if told == [(newest.number, int(offered))] or not (told or offered):
            return None
        with self._database.transaction() as database:
            row = (device, newest.number, int(offered))
            database.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?)", row)
        return _message(newest, offered=offered)

    def news(self, boards: Callable[[], Mapping[str, str]]) -> list[tuple[str, Release]]:
        """What to tell which devices since the rollout changed; cheap where it did not.

        Args:
            boards: Gives the board of each known device.
        """
        rows = self._database.rows("SELECT number, state FROM rollout ORDER BY number DESC LIMIT 1")
        if not rows or rows[0] == self._seen:
            return []
        self._seen = rows[0]
        found = [(device, self.for_device(device, board)) for device, board in boards().items()]
        return [(device, message) for device, message in found if message is not None]

    def told(self) -> list[tuple[str, Release]]:
        """What devices were told last, for a broker that has forgotten it."""
        newest = self.newest()
        if newest is None:
            return []
        rows = self._database.rows(
            "SELECT device, offered FROM told WHERE number = ? ORDER BY device",
            newest.number,
        )
        return [(device, _message(newest, offered=bool(offered))) for device, offered in rows]

    def is_part(self, sha256: str) -> bool:
        """Whether a blob is a release's."""
        query = "SELECT 1 FROM rollout WHERE metadata_sha256 = ? OR bundle_sha256 = ? LIMIT 1"
        return bool(self._database.rows(query, sha256, sha256))

    def note(self, device: str, updated: Updated) -> str | None:
        """Keep what came of an offer; the newest of what a device says of one counts.

        Returns:
            Why the rollout halts, if it does now.
        """
        values = (updated.outcome, updated.reason, updated.running, self._clock())
        with self._database.transaction() as database:
            known = database.execute("SELECT 1 FROM told WHERE device = ?", [device]).fetchone()
            if not known:
                return None  # nobody offered it anything
            row = (device, updated.offer, *values)
            database.execute("INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?, ?, ?)", row)
        newest = self.newest()
        if newest is None or newest.state != ON or newest.number != updated.offer:
            return None
        failed = [name for name, said in self.outcomes(newest.number).items() if said["outcome"] in BAD_OUTCOMES]
        if len(failed) <= newest.cohort.most_failures:
            return None
        reason = f"failed on {len(failed)} devices, {newest.cohort.most_failures} were allowed"
        self.halt(reason)
        return reason

    def outcomes(self, number: int) -> dict[str, dict[str, Any]]:
        """What devices said of a rollout: ``outcome``, ``reason``, ``running``, ``received_s``."""
        query = "SELECT device, outcome, reason, running, received_s FROM outcome WHERE number = ? ORDER BY device"
        names = ("outcome", "reason", "running", "received_s")
        return {device: dict(zip(names, rest, strict=True)) for device, *rest in self._database.rows(query, number)}

    def waiting(self, number: int) -> list[str]:
        """Devices that were offered it and have not said what came of it."""
        query = (
            "SELECT device FROM told WHERE number = ? AND offered"
            " AND device NOT IN (SELECT device FROM outcome WHERE outcome.number = told.number) ORDER BY device"
        )
        return [device for (device,) in self._database.rows(query, number)]

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _message(rollout: Rollout, *, offered: bool) -> Release:
    return Release(rollout.number, rollout.target, rollout.metadata) if offered else Release(rollout.number, None, None)
