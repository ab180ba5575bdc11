"""What personalising gained on other devices, and what that says of this one: a normal prior learnt from a fleet.

A device judges its personal model on a few held-out samples, which is mostly noise; a fleet's reports average it out.
The cloud learns mean and spread of the gains that devices report, by local samples, and tasks carry them; a device
draws its own estimate toward them as far as the two are uncertain (empirical Bayes; Efron and Morris, 1975).

A gain here is the fall of the ranking loss, `edge.learning.metrics.ranking_losses`: the log-loss falls as well where a
model only learns how often a user says yes, and ranks that user's samples worse than before (docs/evaluation-notes.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from protocol.errors import MalformedMessageError

RANKING_GAIN = "holdout_ranking_gain"
"""Name of `ReportedGain.gain` among the metrics of a round's record."""
RANKING_GAIN_ERROR = "holdout_ranking_gain_error"
"""Name of `ReportedGain.error` there."""

# With fewer reports the fleet is silent: gains on hold-outs of four samples scatter by 0.1 to 0.4 nats, so the mean of
# fewer would be noise as well.
FEWEST_DEVICES = 100
DIFFERING_ERRORS = 2.0
# No report counts for more than this, in nats: one broken or hostile device must not speak for a fleet.
LARGEST_GAIN = 1.0
_MOST_ENTRIES = 64  # ranges double, so more cannot be


@dataclass(frozen=True)
class ReportedGain:
    """What one device found on its hold-out.

    Attributes:
        samples: Its local samples.
        gain: Ranking loss of h0 minus that of the personal model, nats.
        error: Standard error of ``gain``; None where the hold-out was too small to tell.
    """

    samples: int
    gain: float
    error: float | None


@dataclass(frozen=True)
class FleetGain:
    """Gains of the devices that have at least so many local samples, and fewer than the next entry's.

    Attributes:
        samples_from: The least; 0 in the entry that speaks of all devices.
        devices: That reported.
        mean: Of their gains.
        error: Standard error of ``mean``.
        spread: Standard deviation of true gains between devices, the noise of their hold-outs taken off.

    Raises:
        MalformedMessageError: If a value cannot be.
    """

    samples_from: int
    devices: int
    mean: float
    error: float
    spread: float

    def __post_init__(self) -> None:
        finite = all(math.isfinite(value) for value in (self.mean, self.error, self.spread))
        if not finite or min(self.samples_from, self.devices, self.error, self.spread) < 0:
            raise MalformedMessageError(f"recipe: fleet_gains holds {self}: numbers must be finite, counts not below 0")

    def expected(self, gain: float, error: float | None) -> float:
        """What a device may expect that found ``gain`` with this standard error: the posterior mean.

        Args:
            gain: On its own hold-out.
            error: None where it cannot be told; the fleet alone then speaks.
        """
        if error is None:
            return self.mean
        between, own = self.spread**2 + self.error**2, error**2
        return self.mean if between + own == 0 else (own * self.mean + between * gain) / (own + between)


def learn_fleet_gains(reports: Iterable[ReportedGain]) -> tuple[FleetGain, ...]:
    """What the reports come to: the whole fleet first, then ranges of local samples that say something else; or ().

    Ranges double from one to the next. One has an entry where its mean differs from the whole fleet's by more than
    `DIFFERING_ERRORS` of its standard errors: most differ by noise alone.
    """
    known = [report for report in reports if math.isfinite(report.gain)]
    if len(known) < FEWEST_DEVICES:
        return ()
    ranges: dict[int, list[ReportedGain]] = {}
    for report in known:
        ranges.setdefault(1 << max(report.samples, 1).bit_length() - 1, []).append(report)
    whole = _learn(0, known)
    own = (_learn(start, group) for start, group in sorted(ranges.items()) if len(group) >= FEWEST_DEVICES)
    return (whole, *(entry for entry in own if abs(entry.mean - whole.mean) > DIFFERING_ERRORS * entry.error))


def gain_of_fleet(gains: Sequence[FleetGain], samples: int) -> FleetGain | None:
    """The entry for a device with so many local samples; None where the fleet is silent."""
    fitting = [entry for entry in gains if entry.samples_from <= samples < 2 * entry.samples_from]
    return next(iter(fitting), next((entry for entry in gains if entry.samples_from == 0), None))


def fleet_gains_from(value: object) -> tuple[FleetGain, ...]:
    """Entries from plain values, as a recipe's `to_dict` gives them.

    Raises:
        MalformedMessageError: If they are anything else.
    """
    names = [field.name for field in fields(FleetGain)]
    if not isinstance(value, (list, tuple)) or len(value) > _MOST_ENTRIES:
        raise MalformedMessageError(f"recipe: fleet_gains must be a list of up to {_MOST_ENTRIES} entries")
    return tuple(_entry(one, names) for one in value)


def _entry(values: object, names: Sequence[str]) -> FleetGain:
    if not isinstance(values, Mapping) or sorted(values) != sorted(names):
        raise MalformedMessageError(f"recipe: an entry of fleet_gains has the fields {', '.join(names)}")
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in values.values()):
        raise MalformedMessageError("recipe: an entry of fleet_gains holds something that is no number")
    return FleetGain(**values)


def _learn(start: int, reports: Sequence[ReportedGain]) -> FleetGain:
    gains = [min(max(report.gain, -LARGEST_GAIN), LARGEST_GAIN) for report in reports]
    count, mean = len(gains), math.fsum(gains) / len(gains)
    variance = math.fsum((gain - mean) ** 2 for gain in gains) / (count - 1)
    noise = [min(report.error, LARGEST_GAIN) ** 2 for report in reports if report.error is not None]
    # Where no device could tell its noise, none of the variance is put down to the devices.
    spread = math.sqrt(max(0.0, variance - math.fsum(noise) / len(noise))) if noise else 0.0
    return FleetGain(start, count, mean, math.sqrt(variance / count), spread)
