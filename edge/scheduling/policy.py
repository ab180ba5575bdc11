"""May the device train now? A pure answer, with its reasons.

What is not known forbids nothing: a board without a thermometer may train. Only a battery whose charge is known,
but not whether it is being charged, counts as one that runs down. What is forbidden today may be allowed in a minute;
the caller asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edge.errors import ConfigError
from protocol.task_policy import HOURS, fault_of

_MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What an owner allows.

    Attributes:
        on_battery: Whether to train off the mains at all.
        least_battery: Share of its charge that a battery must have, off the mains.
        least_idle_cpu: Share of the processors that must be idle; None not to look.
        most_temperature_c: Of the hottest zone; None not to look.
        while_throttled: Whether to train while the board says that it is slowed down or short of volts.
        on_metered_link: Whether to train where the link to the cloud is a metered one.
        hours: Local time of day as ``HH:MM-HH:MM``, which may pass midnight; None for any.
        least_new_samples: Samples that must have come since the last round.
        drift: A log-loss so much above that of the gate's hold-out means that the served model has aged, and that the
            new samples are enough, however few; None not to look.
        update_on_battery: Whether to install a release of the software off the mains.

    Raises:
        ConfigError: If a value is out of bounds.
    """

    on_battery: bool = True
    least_battery: float = 0.3
    least_idle_cpu: float | None = None
    most_temperature_c: float | None = 80.0
    while_throttled: bool = False
    on_metered_link: bool = True
    hours: str | None = None
    least_new_samples: int = 0
    drift: float | None = 0.1
    update_on_battery: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and (fault := fault_of(name, value)):
                raise ConfigError(f"configuration: {fault}")

    @classmethod
    def of_task(cls, asked: Mapping[str, Any] | None) -> Policy:
        """What a task asks, see `protocol.task_policy`: whatever it does not name, it allows."""
        open_to_all = cls(least_battery=0.0, most_temperature_c=None, while_throttled=True, drift=None)
        return replace(open_to_all, **(asked or {}))


@dataclass(frozen=True, kw_only=True)
class State:
    """The device at one moment; None is what is not known.

    Attributes:
        on_mains: Whether it is on the mains.
        battery: The battery's charge, 0 to 1.
        idle_cpu: Share of the processors that was idle lately.
        temperature_c: Of the hottest zone.
        throttled: What the board says that slows it down; empty for nothing.
        metered: Whether the link is metered.
        data_left_bytes: What is left of the month's data; None also for no budget.
        minute: Of the local day, 0 to 1439.
        new_samples: Samples that came since the last round.
        drift: How much higher the served model's log-loss is on recent events than on the gate's hold-out.
        first_round: Whether the device has done no round yet.
        free_bytes: What the disk has left.
    """

    minute: int
    new_samples: int
    on_mains: bool | None = None
    battery: float | None = None
    idle_cpu: float | None = None
    temperature_c: float | None = None
    throttled: frozenset[str] | None = None
    metered: bool | None = None
    data_left_bytes: int | None = None
    drift: float | None = None
    first_round: bool = False
    free_bytes: int | None = None


@dataclass(frozen=True)
class Reason:
    """What one condition says.

    Attributes:
        name: The condition.
        allows: Whether it lets the device train.
        detail: Why, for a person.
    """

    name: str
    allows: bool
    detail: str


@dataclass(frozen=True)
class Decision:
    """Whether to act, and why.

    Attributes:
        act: Whether to train now.
        reasons: Every condition that was looked at.
    """

    act: bool
    reasons: tuple[Reason, ...]

    @property
    def against(self) -> tuple[str, ...]:
        """Names of the conditions that forbid it."""
        return tuple(reason.name for reason in self.reasons if not reason.allows)

    def to_event(self) -> dict[str, object]:
        """As it is logged."""
        reasons = {reason.name: reason.detail for reason in self.reasons if not reason.allows or self.act}
        return {"event": "decision", "act": self.act, "reasons": reasons}


def decide(state: State, policy: Policy, task: Policy | None = None) -> Decision:
    """Whether the device may train now: only if no condition is against it.

    Args:
        state: The device.
        policy: The owner's.
        task: What the task asks beside; a round must be allowed by both.
    """
    conditions = (_power, _cpu, _temperature, _throttling, _link, _data, _time_of_day, _samples)
    reasons = []
    for condition in conditions:
        reason, asked = condition(state, policy), None if task is None else condition(state, task)
        if asked is not None and not asked.allows and (reason is None or reason.allows):
            reason = replace(asked, detail=f"{asked.detail}, as the task asks")
        if reason is not None:
            reasons.append(reason)
    return Decision(all(reason.allows for reason in reasons), tuple(reasons))


def decide_update(state: State, policy: Policy, *, download_bytes: int, disk_bytes: int) -> Decision:
    """Whether the device may install a release of the software now: only if no condition is against it.

    Args:
        state: The device.
        policy: The owner's; what it says of samples and busy processors is for training.
        download_bytes: What is still to be fetched.
        disk_bytes: What the disk must have left.
    """
    careful = replace(policy, on_battery=policy.on_battery and policy.update_on_battery)
    power = _power(state, careful)
    if power is not None and not power.allows and policy.on_battery and not policy.update_on_battery:
        power = Reason("power", False, f"{_fed(state)}; policy.update_on_battery is false")
    found = [power, *(condition(state, policy) for condition in (_temperature, _throttling, _link, _time_of_day))]
    if state.data_left_bytes is not None:
        left = state.data_left_bytes
        detail = f"{left} bytes left of the month's data, {download_bytes} are needed"
        found.append(Reason("data", left >= download_bytes, detail))
    if state.free_bytes is not None:
        detail = f"{state.free_bytes >> 20} MiB free, {disk_bytes >> 20} are needed"
        found.append(Reason("disk", state.free_bytes >= disk_bytes, detail))
    reasons = tuple(reason for reason in found if reason is not None)
    return Decision(all(reason.allows for reason in reasons), reasons)


def _power(state: State, policy: Policy) -> Reason | None:
    if state.on_mains is None and state.battery is None:
        return None
    if state.on_mains:
        return Reason("power", True, "on the mains")
    fed = _fed(state)
    if not policy.on_battery:
        return Reason("power", False, f"{fed}; policy.on_battery is false")
    if state.battery is None:
        return Reason("power", True, "on battery, whose charge is not known")
    enough = state.battery >= policy.least_battery
    battery = "battery" if state.on_mains is False else f"{fed}:"
    return Reason("power", enough, f"{battery} at {state.battery:.0%}, {policy.least_battery:.0%} are needed")


def _fed(state: State) -> str:
    """What feeds a device that is not known to be on the mains: a battery that is run down is worse than a wait."""
    if state.on_mains is False:
        return "on battery"
    return "the battery does not say whether it is charged, so taken as on battery"


def _cpu(state: State, policy: Policy) -> Reason | None:
    if state.idle_cpu is None or policy.least_idle_cpu is None:
        return None
    enough = state.idle_cpu >= policy.least_idle_cpu
    return Reason("cpu", enough, f"processors {state.idle_cpu:.0%} idle, {policy.least_idle_cpu:.0%} are needed")


def _temperature(state: State, policy: Policy) -> Reason | None:
    if state.temperature_c is None or policy.most_temperature_c is None:
        return None
    cool = state.temperature_c <= policy.most_temperature_c
    return Reason("temperature", cool, f"{state.temperature_c:.0f} C, at most {policy.most_temperature_c:.0f} C")


def _throttling(state: State, policy: Policy) -> Reason | None:
    if state.throttled is None or policy.while_throttled:
        return None
    named = ", ".join(sorted(state.throttled))
    return Reason("throttling", not state.throttled, f"the board says {named}" if named else "not throttled")


def _link(state: State, policy: Policy) -> Reason | None:
    if state.metered is None or policy.on_metered_link:
        return None
    return Reason("link", not state.metered, "metered" if state.metered else "not metered")


def _data(state: State, _policy: Policy) -> Reason | None:
    if state.data_left_bytes is None:
        return None
    return Reason("data", state.data_left_bytes > 0, f"{state.data_left_bytes} bytes left of the month's data")


def _time_of_day(state: State, policy: Policy) -> Reason | None:
    if policy.hours is None:
        return None
    begin, end = _minutes(policy.hours)
    since = (state.minute - begin) % _MINUTES_A_DAY
    now = f"{state.minute // 60:02d}:{state.minute % 60:02d}"
    return Reason("hours", since < ((end - begin) % _MINUTES_A_DAY or _MINUTES_A_DAY), f"{now}, within {policy.hours}")


def _minutes(hours: str) -> tuple[int, int]:
    found = HOURS.fullmatch(hours)
    assert found is not None
    begin_h, begin_min, end_h, end_min = map(int, found.groups())
    return begin_h * 60 + begin_min, end_h * 60 + end_min


def _samples(state: State, policy: Policy) -> Reason | None:
    if not policy.least_new_samples:
        return None
    if state.first_round:
        return Reason("samples", True, "no round was done yet")
    if policy.drift is not None and state.drift is not None and state.drift >= policy.drift:
        return Reason("samples", True, f"the served model has aged: its log-loss rose by {state.drift:.3f}")
    enough = state.new_samples >= policy.least_new_samples
    return Reason("samples", enough, f"{state.new_samples} new samples, {policy.least_new_samples} are needed")
