"""Choose a recipe on the validation slice: several recipes in one world, never judged by the test.

python -m evaluation.sweep --data ml-100k --local-events 20 --seeds 1 2 interpolation=1.0 local_share=0.3,steps=400
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.arms import tunes_frozen
from evaluation.building import build_world
from evaluation.datasets import load_dataset
from evaluation.interactions import Interactions
from evaluation.results import ArmsResult, Setting
from evaluation.runner import run_devices
from evaluation.samples import Labels
from evaluation.split import Protocol, split_interactions
from evaluation.statistics import paired_difference
from evaluation.world import Progress
from protocol.errors import MalformedMessageError
from protocol.recipe import Recipe

_ARMS = ("cloud", "local", "coda")


def sweep(
    data: Interactions,
    recipes: Mapping[str, Recipe],
    *,
    local_events: int = 20,
    seed: int = 1,
    arms: Sequence[str] = _ARMS,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, ArmsResult]:
    """Try every recipe on the same new devices, implicit labels, on the validation slice.

    Args:
        data: The ratings.
        recipes: By name.
        local_events: Local events of a device.
        seed: Of the split and of h0.
        arms: Which; ``cloud`` and ``coda`` always run.
        workers: Processes; None takes one per CPU.
        progress: Told what goes on.
    """
    split = split_interactions(
        data, Labels.IMPLICIT, Protocol.NEW, local_events=local_events, seed=seed, part="validation"
    )
    found = {}
    with tempfile.TemporaryDirectory(prefix="coda-sweep-") as folder:
        world = build_world(
            split, Path(folder), labels=Labels.IMPLICIT, seed=seed, frozen=tunes_frozen(arms), progress=progress
        )
        for name, recipe in recipes.items():
            rows = run_devices(world, split.devices, recipe, arms, workers=workers, progress=progress)
            setting = Setting(
                dataset=data.name, synthetic=data.synthetic, labels="implicit", protocol="new",
                local_events=local_events, seed=seed, fold=0, part="validation", recipe=recipe.to_dict(),
            )  # fmt: skip
            found[name] = ArmsResult(setting, tuple(rows))
    return found


def recipe_from(changes: str) -> Recipe:
    """The default recipe with ``name=value,name=value`` changed.

    Raises:
        MalformedMessageError: If a name or a value is not a recipe's.
    """
    defaults = Recipe().to_dict()
    try:
        pairs = dict(change.split("=", 1) for change in changes.split(",") if change)
        typed = {name: type(defaults.get(name, ""))(value) for name, value in pairs.items()}
    except ValueError as error:
        raise MalformedMessageError(f"recipe {changes!r}: give name=value,name=value ({error})") from error
    return Recipe.from_dict({**defaults, **typed})


def report(results: Sequence[Mapping[str, ArmsResult]]) -> str:
    """A line a recipe, over the users of all results: what CoDA gains over cloud and local."""
    lines = []
    for name in results[0]:
        found = [result[name] for result in results]
        aucs = {arm: [auc for one in found for auc in one.aucs(arm)] for arm in _ARMS}
        losses = {arm: [row.scores[arm].log_loss for one in found for row in one.rows] for arm in _ARMS}
        served = sum(row.activated for one in found for row in one.rows) / sum(len(one.rows) for one in found)
        lines.append(
            f"{name or 'defaults':40} coda - cloud {paired_difference(aucs['coda'], aucs['cloud'])}  "
            f"coda - local {paired_difference(aucs['coda'], aucs['local'])}  "
            f"log-loss {paired_difference(losses['coda'], losses['cloud'])}  personal {served:.2f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, sweep, print."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", help="changes to the defaults, e.g. interpolation=1.0,steps=400")
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--local-events", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--workers", type=int)
    options = parser.parse_args(arguments)
    recipes = {changes: recipe_from(changes) for changes in ["", *options.recipes]}
    settings = {"local_events": options.local_events, "workers": options.workers}
    data = load_dataset(options.data)
    found = [
        sweep(data, {name: replace(r, seed=seed) for name, r in recipes.items()}, seed=seed, **settings)
        for seed in options.seeds
    ]
    sys.stdout.write(f"{data.name}, validation slice, {options.local_events} local events, seeds {options.seeds}\n")
    sys.stdout.write(report(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
