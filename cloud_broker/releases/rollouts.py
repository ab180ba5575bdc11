"""Which devices are offered which release, and what came of it; a rollout that fails too often halts by itself.

An operator's command and the workers use it side by side. The newest rollout is the one that counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, or_, select, update

from cloud_broker.errors import ReleaseError
from cloud_broker.storage.database import SharedDatabase, insert, replace
from cloud_broker.storage.place import Place
from cloud_broker.storage.tables import OUTCOME, ROLLOUT, TOLD
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.tags import Tags
from protocol.messages import BlobRef, Release, Updated
from protocol.releases import BAD_OUTCOMES

ON, HALTED = "on", "halted"
_NEWEST = select(ROLLOUT).order_by(ROLLOUT.c.number.desc()).limit(1)
_NEWS = select(ROLLOUT.c.number, ROLLOUT.c.state).order_by(ROLLOUT.c.number.desc()).limit(1)
_TOLD = select(TOLD.c.number, TOLD.c.offered).where(TOLD.c.device == bindparam("device"))
_ALL_TOLD = select(TOLD.c.device, TOLD.c.offered).where(TOLD.c.number == bindparam("number")).order_by(TOLD.c.device)
_PART = (
    select(ROLLOUT.c.number)
    .where(or_(ROLLOUT.c.metadata_sha256 == bindparam("sha256"), ROLLOUT.c.bundle_sha256 == bindparam("sha256")))
    .limit(1)
)
_OUTCOMES = select(OUTCOME).where(OUTCOME.c.number == bindparam("number")).order_by(OUTCOME.c.device)
_ANSWERED = select(OUTCOME.c.device).where(OUTCOME.c.number == bindparam("number"))
_WAITING = (
    select(TOLD.c.device)
    .where(TOLD.c.number == bindparam("number"), TOLD.c.offered, TOLD.c.device.not_in(_ANSWERED))
    .order_by(TOLD.c.device)
)
_MOST_FAILURES = "most_failures"  # stands among the cohort's values
_TELL, _NOTE = replace(TOLD), replace(OUTCOME)


@dataclass(frozen=True)
class Rollout:
    """A release on its way to devices.

    Attributes:
        number: Rises with each.
        target: The release's name.
        metadata: What vouches for it.
        bundle_sha256: Its bundle.
        cohort: Whom it is for; the same devices first for the same bundle.
        most_failures: With more devices on which it failed, it halts.
        state: `ON` or `HALTED`.
        reason: Why it halted.
    """

    number: int
    target: str
    metadata: BlobRef
    bundle_sha256: str
    cohort: Cohort
    most_failures: int
    state: str
    reason: str


class Rollouts:
    """The newest rollout, whom it was offered to, and what they said; safe to use from several threads."""

    def __init__(self, where: Place | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open what is there, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = SharedDatabase(where)
        self._tags = Tags(where)
        self._clock = clock
        self._seen: tuple[int, str] | None = None

    def begin(
        self, target: str, metadata: BlobRef, bundle_sha256: str, cohort: Cohort, *, most_failures: int = 0
    ) -> Rollout:
        """Offer a release from now on, and none that was offered before.

        Args:
            target: The release's name.
            metadata: What vouches for it.
            bundle_sha256: Its bundle.
            cohort: Whom it is for.
            most_failures: With more devices on which it failed, it halts.

        Raises:
            ReleaseError: If ``most_failures`` is below 0.
        """
        if most_failures < 0:
            raise ReleaseError(f"{most_failures} failures at most: a rollout takes none, or some")
        row = {
            "target": target,
            "metadata_sha256": metadata.sha256,
            "metadata_bytes": metadata.size_bytes,
            "bundle_sha256": bundle_sha256,
            "cohort": {**cohort.to_dict(), _MOST_FAILURES: most_failures},
            "state": ON,
            "made_s": self._clock(),
        }
        with self._database.transaction() as database:
            database.execute(insert(ROLLOUT), row)
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
            halted = update(ROLLOUT).where(ROLLOUT.c.number == newest.number)
            database.execute(halted, {"state": HALTED, "reason": reason})
        return newest

    def newest(self) -> Rollout | None:
        """The newest rollout; None before the first."""
        rows = self._database.rows(_NEWEST)
        if not rows:
            return None
        number, target, sha256, size_bytes, bundle, values, state, reason, _made_s = rows[0]
        whom = Cohort.from_dict({name: value for name, value in values.items() if name != _MOST_FAILURES})
        most = values.get(_MOST_FAILURES, 0)
        return Rollout(number, target, BlobRef(sha256, size_bytes), bundle, whom, most, state, reason)

    def for_device(self, device: str, board: str) -> Release | None:
        """What to tell a device that it was not told yet; None for nothing."""
        newest = self.newest()
        if newest is None:
            return None
        told = self._database.rows(_TOLD, device=device)
        tags = self._tags.of(device) if newest.cohort.tags else ()
        offered = newest.state == ON and newest.cohort.has(device, board, newest.bundle_sha256, tags)
        if told == [(newest.number, offered)] or not (told or offered):
            return None
        with self._database.transaction() as database:
            database.execute(_TELL, {"device": device, "number": newest.number, "offered": offered})
        return _message(newest, offered=offered)

    def news(self, boards: Callable[[], Mapping[str, str]]) -> list[tuple[str, Release]]:
        """What to tell which devices since the rollout changed; cheap where it did not.

        Args:
            boards: Gives the board of each known device.
        """
        rows = self._database.rows(_NEWS)
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
        rows = self._database.rows(_ALL_TOLD, number=newest.number)
        return [(device, _message(newest, offered=offered)) for device, offered in rows]

    def is_part(self, sha256: str) -> bool:
        """Whether a blob is a release's."""
        return bool(self._database.rows(_PART, sha256=sha256))

    def note(self, device: str, updated: Updated) -> str | None:
        """Keep what came of an offer; the newest of what a device says of one counts.

        Returns:
            Why the rollout halts, if it does now.
        """
        said = {"outcome": updated.outcome, "reason": updated.reason, "running": updated.running}
        if not self._database.rows(_TOLD, device=device):
            return None  # nobody offered it anything
        with self._database.transaction() as database:
            row = {"device": device, "number": updated.offer, "received_s": self._clock(), **said}
            database.execute(_NOTE, row)
        newest = self.newest()
        if newest is None or newest.state != ON or newest.number != updated.offer:
            return None
        failed = [name for name, said in self.outcomes(newest.number).items() if said["outcome"] in BAD_OUTCOMES]
        if len(failed) <= newest.most_failures:
            return None
        reason = f"failed on {len(failed)} devices, {newest.most_failures} were allowed"
        self.halt(reason)
        return reason

    def outcomes(self, number: int) -> dict[str, dict[str, Any]]:
        """What devices said of a rollout: ``outcome``, ``reason``, ``running``, ``received_s``."""
        names = ("outcome", "reason", "running", "received_s")
        rows = self._database.rows(_OUTCOMES, number=number)
        return {device: dict(zip(names, said, strict=True)) for device, _number, *said in rows}

    def waiting(self, number: int) -> list[str]:
        """Devices that were offered it and have not said what came of it."""
        return [device for (device,) in self._database.rows(_WAITING, number=number)]

    def close(self) -> None:
        """Close the database."""
        self._tags.close()
        self._database.close()


def _message(rollout: Rollout, *, offered: bool) -> Release:
    return Release(rollout.number, rollout.target, rollout.metadata) if offered else Release(rollout.number, None, None)
