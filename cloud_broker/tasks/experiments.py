"""What an experiment found: each arm against the control, with intervals, and a sentence that says no more than that.

A device is the unit: what several of its rounds say is averaged first. The verdict is about one measure; the intervals
of all arms hold at once (Bonferroni), those of several measures do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cloud_broker.tasks.arms import CONTROL
from cloud_broker.tasks.differences import Difference, Mean, difference_of_shares, mean_of, mismatch, welch
from cloud_broker.tasks.layers import Layer
from cloud_broker.tasks.round_history import ReportedRound
from cloud_broker.tasks.standings import FAILED, verdict_of_decision
from profiling.record import ACTIVATED

CONFIDENCE = 0.95
HARDLY_CHANCE = 0.001
"""Below such a chance of a sample-ratio mismatch, the arms are not compared."""


@dataclass(frozen=True)
class Measure:
    """What is compared.

    Attributes:
        name: For a person and for JSON, the unit in it.
        value: Of a round; None where it has none.
        better: 1 if more is better, -1 if less is.
        compare: Gives the difference of two arms' values.
    """

    name: str
    value: Callable[[ReportedRound], float | None]
    better: int
    compare: Callable[[Sequence[float], Sequence[float], float], Difference | None] = welch


RANKING = Measure("ranking_gain_nats", lambda told: told.ranking_gain, 1)
LOSS = Measure("served_log_loss_nats", lambda told: told.log_loss, -1)
MEASURES = (
    RANKING,
    Measure("log_loss_gain_nats", lambda told: told.log_loss_gain, 1),
    LOSS,
    Measure("accepted_share", lambda told: float(told.decision == ACTIVATED), 1, difference_of_shares),
    Measure("failed_share", lambda told: float(verdict_of_decision(told.decision) == FAILED), -1, difference_of_shares),
    Measure("elapsed_s", lambda told: told.elapsed_s, -1),
    Measure("mqtt_bytes", lambda told: told.mqtt_bytes, -1),
    Measure("energy_j", lambda told: told.energy_j, -1),
)


@dataclass(frozen=True)
class ArmResult:
    """One arm.

    Attributes:
        name: The arm's.
        changes: What it changes, in words.
        assigned: Devices that have its task.
        reported: Devices that reported a round of it.
        means: By measure, over the devices that have it.
        differences: To the control, by measure; empty of the control; None where devices are too few.
    """

    name: str
    changes: str
    assigned: int
    reported: int
    means: Mapping[str, Mean]
    differences: Mapping[str, Difference | None]


@dataclass(frozen=True)
class ExperimentResult:
    """What an experiment found.

    Attributes:
        primary: The measure that the verdict is about.
        arms: In their order.
        assigned_mismatch: Chance of arms that were given so many devices, if devices go by weight.
        reported_mismatch: Chance of arms of which so many devices reported.
        verdict: For a person.
    """

    primary: str
    arms: tuple[ArmResult, ...]
    assigned_mismatch: float
    reported_mismatch: float
    verdict: str


def results(
    layer: Layer, rounds: Mapping[str, Iterable[ReportedRound]], assigned: Mapping[str, int]
) -> ExperimentResult:
    """Compare an experiment's arms.

    Args:
        layer: The experiment.
        rounds: By arm.
        assigned: Devices that have each arm's task.
    """
    values = {arm.name: _by_device(rounds[arm.name]) for arm in layer.arms}
    # Where models differ, so does h0, and with it what a gain is over; then what is served is compared.
    primary = LOSS if any(arm.overrides.model for arm in layer.arms) else RANKING
    confidence = 1 - (1 - CONFIDENCE) / (len(layer.arms) - 1)
    found = tuple(
        ArmResult(
            arm.name,
            str(arm.overrides),
            assigned[arm.name],
            len(values[arm.name]),
            {measure.name: mean_of(_column(values[arm.name], measure)) for measure in MEASURES},
            {}
            if arm.name == CONTROL
            else {
                measure.name: measure.compare(
                    _column(values[arm.name], measure), _column(values[CONTROL], measure), confidence
                )
                for measure in MEASURES
            },
        )
        for arm in layer.arms
    )
    weights = [arm.weight for arm in layer.arms]
    given, told = mismatch([arm.assigned for arm in found], weights), mismatch([arm.reported for arm in found], weights)
    verdict = _verdict(found, primary, layer.least_devices, min(given, told))
    return ExperimentResult(primary.name, found, given, told, verdict)


def _by_device(rounds: Iterable[ReportedRound]) -> list[list[ReportedRound]]:
    devices: dict[str, list[ReportedRound]] = {}
    for told in rounds:
        devices.setdefault(told.device, []).append(told)
    return list(devices.values())


def _column(devices: Sequence[Sequence[ReportedRound]], measure: Measure) -> list[float]:
    """One value a device: the mean of its rounds that have one."""
    known = ([value for told in rounds if (value := measure.value(told)) is not None] for rounds in devices)
    return [sum(values) / len(values) for values in known if values]


def _verdict(arms: Sequence[ArmResult], primary: Measure, least_devices: int, chance: float) -> str:
    if chance < HARDLY_CHANCE:
        counts = ", ".join(f"{arm.name} {arm.assigned}/{arm.reported}" for arm in arms)
        return (
            f"Not comparable: devices assigned/reported are {counts}, which chance gives with {chance:.2g}. "
            "Find out why devices of an arm are missing."
        )
    missing = [f"{arm.name} {known}" for arm in arms if (known := arm.means[primary.name].devices) < least_devices]
    if missing:
        return (
            f"Too early: {least_devices} devices with a {primary.name} are asked for in each arm; {', '.join(missing)}."
        )
    return " ".join(_said(arm, primary) for arm in arms if arm.name != CONTROL)


def _said(arm: ArmResult, primary: Measure) -> str:
    found = arm.differences[primary.name]
    if found is None:
        return f"{arm.name}: nothing can be said of so few devices."
    interval = f"{found.difference:+.4f}, {found.confidence:.1%} interval {found.low:+.4f} to {found.high:+.4f}"
    if not found.shown:
        return f"{arm.name}: no difference in {primary.name} is shown ({interval})."
    word = "better" if found.difference * primary.better > 0 else "worse"
    return f"{arm.name} is {word} than {CONTROL} in {primary.name} ({interval})."
