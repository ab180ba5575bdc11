"""What it takes to give a large fleet its tasks: python -m benchmarks.task_fleet --devices 100000.

The cloud's own book of tasks over SQLite in a temporary folder, without a broker; seconds, each done once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from cloud_broker.tasks import orders as task_orders
from cloud_broker.tasks.book import TaskBook
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.layers import EVERYONE
from cloud_broker.tasks.overrides import Overrides
from cloud_broker.tasks.staging import Plan, Stage
from protocol.messages import BlobRef
from protocol.recipe import Recipe
from protocol.schema import Feature, FeatureKind, FeatureSchema

Value = TypeVar("Value")

_BLOB = BlobRef("a" * 64, 10)
_SCHEMA = FeatureSchema((Feature("item", FeatureKind.CATEGORICAL, 1, 1000, "item"),))
_PLAN = Plan((Stage(1, 0, 0), Stage(100, 0, 0)))


def timed(what: str, do: Callable[[], Value]) -> Value:
    """Do it, and print how long that took."""
    begun_s = time.perf_counter()
    value = do()
    print(f"{what:48} {time.perf_counter() - begun_s:6.2f} s")
    return value


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    names = [f"device-{number}" for number in range(parser.parse_args().devices)]
    with tempfile.TemporaryDirectory() as folder, closing(TaskBook(Path(folder))) as tasks:
        tasks.make_current(_SCHEMA, Recipe(), _BLOB, _BLOB)
        timed(f"everyone's task to {len(names):,} devices", lambda: tasks.reassign(names))
        layer = task_orders.roll_out(tasks, "steps", Cohort(), Overrides({"steps": 7}), _PLAN)
        given = timed("a rollout's first stage, 1%", tasks.reassign)
        timed(f"a look that changes nothing ({len(given):,} are in it)", tasks.reassign)
        tasks.layers.turn(layer, layer.progress.look(_PLAN, task_orders.heard_of(tasks, layer), time.time()))
        given = timed("its last stage, 100%", tasks.reassign)
        timed("what is known of it", lambda: task_orders.heard_of(tasks, tasks.layers.named("steps")))
        timed("the task of one device that says hello", lambda: tasks.assign("new"))
        task_orders.stop(tasks, "steps", layer.kind)
        timed(f"a stop: the old task to {len(given):,} devices", tasks.reassign)
        assert tasks.members(EVERYONE) == len(names) + 1


if __name__ == "__main__":
    main()
