"""How often a rollout stops, and an experiment shows a difference: where there is nothing wrong, and where there is.

    python -m benchmarks.decisions

Simulated devices, real rules: `cloud_broker.tasks.staging.Bounds` looked at after every report,
`cloud_broker.tasks.differences` looked at once. Prints markdown tables.
"""

from __future__ import annotations

import numpy as np

from cloud_broker.tasks.differences import welch
from cloud_broker.tasks.staging import Bounds, Told

_ROLLOUTS, _MOST_REPORTS = 400, 200
_EXPERIMENTS = 4000
_SEED = 1


def stops(rest: int, before: float, now: float) -> tuple[float, float | None]:
    """Share of rollouts that stop within so many reports, and the median report at which they do.

    Args:
        rest: Devices of the rest that reported.
        before: Share of them whose gate refuses.
        now: The same of the rollout's devices.
    """
    rng, bounds = np.random.default_rng(_SEED), Bounds()
    stopped = []
    for _ in range(_ROLLOUTS):
        others = Told(rest, 0, rest, int(rng.binomial(rest, before)))
        refusals = np.cumsum(rng.random(_MOST_REPORTS) < now)
        reports = enumerate(map(int, refusals), 1)
        stopped.append(next((n for n, hits in reports if bounds.fault(Told(n, 0, n, hits), others)), None))
    at = [report for report in stopped if report is not None]
    return len(at) / _ROLLOUTS, float(np.median(at)) if at else None


def shown(devices: int, effect: float) -> tuple[float, float]:
    """Share of experiments that show a difference, and share of intervals that hold the true one.

    Args:
        devices: Of each arm.
        effect: The true difference, in standard deviations between devices, whose values are skewed.
    """
    rng = np.random.default_rng(_SEED)
    draws = rng.gamma(2.0, 1 / np.sqrt(2), (_EXPERIMENTS, 2, devices))  # a deviation of 1
    found = [welch((ours + effect).tolist(), control.tolist(), 0.95) for ours, control in draws]
    known = [one for one in found if one is not None]
    return sum(one.shown for one in known) / len(found), sum(one.low < effect < one.high for one in known) / len(found)


def main() -> None:
    """Print both tables."""
    print(f"| rest | refuse before | refuse now | stopped of {_ROLLOUTS} | median report |\n|---|---|---|---|---|")
    for rest in (20, 200, 20_000):
        for before, now in ((0.3, 0.3), (0.3, 0.5), (0.3, 0.7), (0.3, 1.0)):
            share, median = stops(rest, before, now)
            told = "-" if median is None else f"{median:.0f}"
            print(f"| {rest:,} | {before:.0%} | {now:.0%} | {share:.1%} | {told} |")
    print(f"\n| devices an arm | true difference | shown of {_EXPERIMENTS} | interval holds it |\n|---|---|---|---|")
    for devices in (10, 30, 100):
        for effect in (0.0, 0.5, 1.0):
            found, held = shown(devices, effect)
            print(f"| {devices} | {effect:g} deviations | {found:.1%} | {held:.1%} |")


if __name__ == "__main__":
    main()
