"""What the commands about tasks and experiments share: their options, and the cloud's book."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cloud_broker.tasks.book import TaskBook
    from cloud_broker.tasks.cohorts import Cohort
    from cloud_broker.tasks.overrides import Overrides

Config = Annotated[Path, typer.Option(help="The cloud's configuration, TOML.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Percent = Annotated[float, typer.Option(help="Of the devices that fit the rest, by a stable hash.")]
Device = Annotated[list[str] | None, typer.Option(help="Only this device; may be said again.")]
Board = Annotated[str, typer.Option(help="Only boards whose name matches this pattern.")]
Tag = Annotated[list[str] | None, typer.Option(help="Only devices with this tag, key=value; may be said again.")]


@contextmanager
def open_tasks(config: Path) -> Iterator[TaskBook]:
    """The tasks of a cloud, which may serve meanwhile."""
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.tasks.book import TaskBook

    with closing(TaskBook(load_config(config).place)) as tasks:
        yield tasks


def cohort_of(percent: float, device: Sequence[str] | None, board: str, tag: Sequence[str] | None) -> Cohort:
    """The cohort that these options say."""
    from cloud_broker.tasks.cohorts import Cohort

    return Cohort(percent=percent, devices=tuple(device or ()), board=board, tags=tuple(tag or ()))


def overrides_of(config: Path, recipe: Sequence[str], policy: Sequence[str], model: str) -> Overrides:
    """What these options change of everyone's task; a model is looked up in the cloud's registry."""
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.models.registry import Registry
    from cloud_broker.tasks.orders import model_of
    from cloud_broker.tasks.overrides import Overrides, read_settings

    found = None
    if model:
        with closing(Registry(load_config(config).place)) as registry:
            found = model_of(registry, model)
    return Overrides(read_settings(recipe, "--recipe"), read_settings(policy, "--policy"), found)
