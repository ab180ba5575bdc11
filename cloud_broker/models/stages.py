"""Which stage each published model is in, and has been in: an account that only grows.

::

    candidate ──> canary ──> live ──> retired
        └───────────┴─────────┴──────────^

One model is live: it ends only when another goes live, which retires it. At most one is the canary; the one before it
goes back to being a candidate. A retired model may be taken up again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, func, select

from cloud_broker.errors import ModelStageError
from cloud_broker.storage.database import SharedDatabase, hold, insert
from cloud_broker.storage.stages import CANARY, CANDIDATE, LIVE, RETIRED
from cloud_broker.storage.tables import STAGE

_ADD = insert(STAGE)
_NEXT = {CANDIDATE: CANARY, CANARY: LIVE}
_OF_STAGE = (
    select(STAGE.c.version, STAGE.c.number)
    .where(STAGE.c.stage == bindparam("stage"))
    .order_by(STAGE.c.number.desc())
    .limit(1)
)
_OF_MODEL = (
    select(STAGE.c.stage, STAGE.c.since_s, STAGE.c.reason)
    .where(STAGE.c.version == bindparam("version"))
    .order_by(STAGE.c.number)
)
_BEFORE = (
    select(STAGE.c.live_before)
    .where(STAGE.c.version == bindparam("version"), STAGE.c.stage == LIVE)
    .order_by(STAGE.c.number)
    .limit(1)
)
_LAST = select(func.max(STAGE.c.number)).group_by(STAGE.c.version)
_NOW = select(STAGE.c.version, STAGE.c.stage, STAGE.c.since_s, STAGE.c.reason).where(STAGE.c.number.in_(_LAST))
# A model's time ends when the next one goes live.
_TIMELINE = (
    select(STAGE.c.version, func.lead(STAGE.c.since_s).over(order_by=STAGE.c.number))
    .where(STAGE.c.stage == LIVE)
    .order_by(STAGE.c.number.desc())
    .limit(bindparam("most"))
)


@dataclass(frozen=True)
class StageChange:
    """A model came to a stage.

    Attributes:
        stage: One of `cloud_broker.storage.stages.STAGES`.
        since_s: When, Unix time.
        reason: Why.
    """

    stage: str
    since_s: float
    reason: str


class Stages:
    """The account of stages; safe to use from several threads and processes."""

    def __init__(self, database: SharedDatabase, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def live(self) -> int | None:
        """The version that is live; None before the first."""
        return next((version for version, _ in self._database.rows(_OF_STAGE, stage=LIVE)), None)

    def canary(self) -> int | None:
        """The version that is the canary; None where there is none."""
        for version, _ in self._database.rows(_OF_STAGE, stage=CANARY):
            if self.of(version)[-1].stage == CANARY:
                return int(version)
        return None

    def now(self) -> dict[int, StageChange]:
        """The stage of every model."""
        return {version: StageChange(*change) for version, *change in self._database.rows(_NOW)}

    def of(self, version: int) -> list[StageChange]:
        """Every stage that a model came to, in order; none for a model that is not there."""
        return [StageChange(*change) for change in self._database.rows(_OF_MODEL, version=version)]

    def live_times(self, most: int) -> list[tuple[int, float | None]]:
        """The last ``most`` versions that went live, the last first, and when each ended; None for the one that is."""
        return [(version, ended_s) for version, ended_s in self._database.rows(_TIMELINE, most=most)]

    def begin(self, connection: Connection, version: int, stage: str, since_s: float) -> None:
        """Let a model that was just added come to its first stage, in the transaction that adds it."""
        hold(connection, STAGE)
        _enter(connection, version, StageChange(stage, since_s, "published"))

    def promote(self, version: int, stage: str | None = None, reason: str = "promoted") -> str:
        """Let a model come to the next stage, or to one that is named: canary or live.

        Returns:
            The stage that it came to.

        Raises:
            ModelStageError: If there is no such model, or it is there already.
        """
        with self._database.transaction() as connection:
            hold(connection, STAGE)
            now = _stage_of(connection, version)
            wanted = stage or _NEXT.get(now)
            if wanted is None:
                raise ModelStageError(f"model {version} is {now}: say to which stage it is to go, canary or live")
            if wanted == now:
                raise ModelStageError(f"model {version} is {now} already")
            if now == LIVE:
                raise ModelStageError(f"model {version} is live: promote another, or roll back")
            _enter(connection, version, StageChange(wanted, self._clock(), reason))
        return wanted

    def retire(self, version: int, reason: str = "retired") -> None:
        """Take a model out of use that is not live.

        Raises:
            ModelStageError: If there is no such model, or it is live or retired.
        """
        with self._database.transaction() as connection:
            hold(connection, STAGE)
            now = _stage_of(connection, version)
            if now == LIVE:
                raise ModelStageError(f"model {version} is live: promote another, or roll back")
            if now == RETIRED:
                raise ModelStageError(f"model {version} is retired already")
            _note(connection, version, StageChange(RETIRED, self._clock(), reason))

    def roll_back(self, reason: str = "rolled back") -> int:
        """Make the model live again that was live before the one that is: said again, it goes further back.

        Returns:
            The version that is live now.

        Raises:
            ModelStageError: If none was live before.
        """
        with self._database.transaction() as connection:
            hold(connection, STAGE)
            live = _last_of(connection, LIVE)
            before = None if live is None else connection.scalar(_BEFORE, {"version": live})
            if before is None:
                raise ModelStageError("no model was live before: there is nothing to roll back to")
            _enter(connection, before, StageChange(LIVE, self._clock(), f"{reason}, from model {live}"))
        return int(before)


def _enter(connection: Connection, version: int, change: StageChange) -> None:
    """Let a model come to a stage, and the one that it takes the place of leave it, in the same moment."""
    if change.stage == LIVE:
        live = _last_of(connection, LIVE)
        if live is not None:
            _note(connection, live, replace(change, stage=RETIRED, reason=f"model {version} is live: {change.reason}"))
        _note(connection, version, change, live)
        return
    last = _last_of(connection, CANARY)
    if change.stage == CANARY and last is not None and _stage_of(connection, last) == CANARY:
        _note(connection, last, replace(change, stage=CANDIDATE, reason=f"model {version} is the canary"))
    _note(connection, version, change)


def _note(connection: Connection, version: int, change: StageChange, live_before: int | None = None) -> None:
    connection.execute(_ADD, {"version": version, **vars(change), "live_before": live_before})


def _last_of(connection: Connection, stage: str) -> int | None:
    """The version that came to a stage last; it may have left it."""
    found: int | None = connection.scalar(_OF_STAGE, {"stage": stage})
    return found


def _stage_of(connection: Connection, version: int) -> str:
    changes = connection.execute(_OF_MODEL, {"version": version}).all()
    if not changes:
        raise ModelStageError(f"there is no model {version}: see `coda cloud models list`")
    return str(changes[-1][0])
