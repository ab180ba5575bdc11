"""A staged rollout as a state machine: on to the next stage, or stopped, by what devices reported; no clock, no disk.

::

    running --> done                     all stages passed
    running <-> paused                   by the operator: no further stage begins, and what is wrong still stops it
    running, paused, done --> stopped    by what was reported, or by the operator; final
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from cloud_broker.errors import TaskError
from cloud_broker.tasks.proportions import Share, has_risen, is_above

RUNNING, PAUSED, DONE, STOPPED = "running", "paused", "done", "stopped"
ALPHA = 0.005
"""Chance that one of the four rules, see `Bounds.fault`, ever stops a rollout that does no harm."""
_HEARD = 0.8  # of a stage's devices must have reported, where these are fewer than its reports: some are away for long
_MOST_STAGES = 20


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a rollout may do to a fleet.

    Attributes:
        most_failed: Share of devices whose round may fail.
        most_refused: Share whose gate may refuse the personal model, of those that had one to judge.
        least_rise: A rise over the rest that is smaller than this, in share, never stops it.

    Raises:
        TaskError: If a value is no share.
    """

    most_failed: float = 0.2
    most_refused: float = 0.9
    least_rise: float = 0.02

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise TaskError(f"{name} is a share, 0 to 1, got {value:g}")

    def fault(self, told: Told, rest: Told) -> str | None:
        """Why the rollout must stop; None where nothing speaks against it strongly enough.

        Four rules, for failed rounds and for refusals: the share is above its bound, or above the rest's. Each is
        wrong with a chance of at most `ALPHA` over the whole rollout, however often one looks.

        Args:
            told: By the rollout's devices.
            rest: By the fleet about the task before.
        """
        rules = (
            ("rounds fail", told.failed, rest.failed, self.most_failed),
            ("gates refuse", told.refused, rest.refused, self.most_refused),
        )
        for what, share, other, most in rules:
            if is_above(share, most, ALPHA):
                return f"{what} on {share}, at most {most:.0%} are allowed"
            rise = (share.value or 0.0) - (other.value or 0.0)
            if rise >= self.least_rise and has_risen(share, other, ALPHA):
                return f"{what} on {share}, on {other} of the rest"
        return None


@dataclass(frozen=True)
class Told:
    """What devices said of their rounds, each device counted once.

    Attributes:
        devices: That reported.
        failures: Whose round failed.
        judged: Whose gate had a personal model to judge.
        refusals: Whose gate kept h0.
    """

    devices: int = 0
    failures: int = 0
    judged: int = 0
    refusals: int = 0

    @property
    def failed(self) -> Share:
        """Share of failed rounds."""
        return Share(self.failures, self.devices)

    @property
    def refused(self) -> Share:
        """Share of refusals."""
        return Share(self.refusals, self.judged)


@dataclass(frozen=True)
class Stage:
    """A step of a rollout.

    Attributes:
        percent: Of the cohort.
        least_reports: Devices that must have reported since it began; where there are hardly so many new ones, most of
            those that there are.
        least_s: Seconds that it lasts at least.
    """

    percent: float
    least_reports: int
    least_s: float

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100 or self.least_reports < 0 or not 0 <= self.least_s < float("inf"):
            raise TaskError(f"a stage is above 0 to 100 percent, with reports and seconds from 0 on, got {self}")

    def has_heard(self, reports: int, devices: int) -> bool:
        """Whether so many reports are enough, of so many devices that were to report."""
        return reports >= min(self.least_reports, math.ceil(devices * _HEARD))


@dataclass(frozen=True)
class Plan:
    """How a rollout goes.

    Attributes:
        stages: Each larger than the one before.
        bounds: What stops it.
    """

    stages: tuple[Stage, ...]
    bounds: Bounds = Bounds()

    def __post_init__(self) -> None:
        shares = [stage.percent for stage in self.stages]
        if not 1 <= len(shares) <= _MOST_STAGES or shares != sorted(set(shares)):
            raise TaskError(f"a rollout has 1 to {_MOST_STAGES} stages, each larger than the one before, got {shares}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"stages": [asdict(stage) for stage in self.stages], "bounds": asdict(self.bounds)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Inverse of `to_dict`."""
        return cls(tuple(Stage(**stage) for stage in values["stages"]), Bounds(**values["bounds"]))


@dataclass(frozen=True)
class Heard:
    """What is known of a rollout at one moment.

    Attributes:
        told: By its devices so far.
        rest: By the fleet about the task before.
        fresh: Devices of it that reported since the stage began.
        members: Devices that have its task.
    """

    told: Told
    rest: Told
    fresh: int
    members: int


@dataclass(frozen=True)
class Progress:
    """Where a rollout stands.

    Attributes:
        state: `RUNNING`, `PAUSED`, `DONE` or `STOPPED`.
        stage: Number of the stage, from 0.
        since_s: Unix time at which the stage began.
        reason: Why it stopped.
    """

    state: str
    stage: int
    since_s: float
    reason: str = ""

    def look(self, plan: Plan, heard: Heard, now_s: float) -> Progress:
        """What is to be done now, one step at most; itself where nothing is.

        Args:
            plan: The rollout's.
            heard: What its devices and the rest said.
            now_s: Unix time.
        """
        if self.state == STOPPED:
            return self
        if fault := plan.bounds.fault(heard.told, heard.rest):
            return self.stop(fault)
        stage, new = plan.stages[self.stage], heard.members - (heard.told.devices - heard.fresh)
        if self.state != RUNNING or now_s - self.since_s < stage.least_s or not stage.has_heard(heard.fresh, new):
            return self
        if self.stage + 1 == len(plan.stages):
            return replace(self, state=DONE)
        return replace(self, stage=self.stage + 1, since_s=now_s)

    def pause(self) -> Progress:
        """Let no further stage begin.

        Raises:
            TaskError: If it does not run.
        """
        return replace(self._known(RUNNING, "paused"), state=PAUSED)

    def resume(self) -> Progress:
        """Go on; the stage's time went on.

        Raises:
            TaskError: If it is not paused.
        """
        return replace(self._known(PAUSED, "resumed"), state=RUNNING)

    def stop(self, reason: str) -> Progress:
        """Give devices their task of before.

        Raises:
            TaskError: If it is stopped already.
        """
        if self.state == STOPPED:
            raise TaskError(f"it is stopped already: {self.reason}")
        return replace(self, state=STOPPED, reason=reason)

    def _known(self, state: str, what: str) -> Progress:
        if self.state != state:
            raise TaskError(f"what is {self.state} cannot be {what}, only what is {state}")
        return self
