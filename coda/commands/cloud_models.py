"""`coda cloud models`: the published models, their stages, and how each came to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cloud_broker.models.registry import PublishedModel, Registry
    from cloud_broker.models.stages import StageChange

app = typer.Typer(
    help="The published models: which devices are given, which are tried, how each came to be.", no_args_is_help=True
)

Config = Annotated[Path, typer.Option(help="The cloud's configuration, TOML.")]
Version = Annotated[int, typer.Argument(help="The model's version, as `coda cloud models list` tells it.", min=1)]
Why = Annotated[str, typer.Option("--reason", help="Why, for the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", epilog="Example:  coda cloud models list --config cloud.toml")
def list_(config: Config, as_json: AsJson = False) -> None:
    """List the models, the newest first, with their stages."""
    from coda.output import print_json, results

    with _registry(config) as registry:
        now = registry.stages.now()
        found = [(registry.find(version), now[version]) for version in registry.versions()]
    if as_json:
        print_json([_summary(model, change) for model, change in found])
        return
    if not found:
        results.print("no model is published yet: coda cloud train", markup=False)
    for model, change in found:
        line = f"{model.version:>4}  {change.stage:9}  since {_time(change.since_s)}  {model.recommender.sha256[:12]}"
        results.print(f"{line}  {change.reason}", markup=False)


@app.command(epilog="Example:  coda cloud models show 3 --config cloud.toml")
def show(version: Version, config: Config, as_json: AsJson = False) -> None:
    """Tell of a model: its files, every stage it was in, and what it was made from and judged by."""
    from coda.output import print_json, results

    with _registry(config) as registry:
        model, changes = registry.find(version), registry.stages.of(version)
    if as_json:
        history = [vars(change) for change in changes]
        print_json({**_summary(model, changes[-1]), "history": history, "lineage": model.lineage})
        return
    results.print(f"model {model.version} is {changes[-1].stage}", markup=False)
    for name, blob in (("recommender", model.recommender), ("classifier", model.classifier)):
        results.print(f"  {name:12} {blob.size_bytes:>10} bytes  {blob.sha256}", markup=False)
    results.print("history", markup=False)
    for change in changes:
        results.print(f"  {_time(change.since_s)}  {change.stage:9}  {change.reason}", markup=False)
    results.print("lineage", markup=False)
    for name, value in _flat(model.lineage):
        results.print(f"  {name:44} {value}", markup=False)


@app.command(epilog="Example:  coda cloud models promote 4 --config cloud.toml --reason 'better on the hold-out'")
def promote(
    version: Version,
    config: Config,
    to: Annotated[str | None, typer.Option(help="canary or live; by default the next stage.")] = None,
    reason: Why = "promoted",
) -> None:
    """Let a model come to the next stage: a candidate becomes the canary, the canary goes live.

    A cloud that serves embeds its pool for the model first, and then gives devices their tasks.
    """
    from coda.errors import UsageError
    from coda.output import console

    if to not in (None, "canary", "live"):
        raise UsageError(f"a model is promoted to canary or live, not to {to!r}")
    with _registry(config) as registry:
        canary, now = registry.stages.canary(), registry.stages.now().get(version)
        if canary not in (None, version) and (to or (now and now.stage)) in ("canary", "candidate"):
            _check_not_given(config, canary)
        stage = registry.stages.promote(version, to, reason)
    console.print(f"model {version} is {'the canary' if stage == 'canary' else stage}", markup=False)


@app.command(epilog="Example:  coda cloud models retire 4 --config cloud.toml --reason 'too slow on a Pi 3'")
def retire(version: Version, config: Config, reason: Why = "retired") -> None:
    """Take a candidate or the canary out of use; its files stay."""
    from coda.output import console

    _check_not_given(config, version)
    with _registry(config) as registry:
        registry.stages.retire(version, reason)
    console.print(f"model {version} is retired", markup=False)


@app.command(epilog="Example:  coda cloud models rollback --config cloud.toml --reason 'fewer clicks since Monday'")
def rollback(config: Config, reason: Why = "rolled back") -> None:
    """Make the model live again that was live before; said again, it goes further back."""
    from coda.output import console

    with _registry(config) as registry:
        version = registry.stages.roll_back(reason)
    console.print(f"model {version} is live again", markup=False)


@contextmanager
def _registry(config: Path) -> Iterator[Registry]:
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.models.registry import Registry

    with closing(Registry(load_config(config).place)) as registry:
        yield registry


def _check_not_given(config: Path, version: int) -> None:
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.tasks.layers import Layers
    from cloud_broker.tasks.orders import check_not_given

    with closing(Layers(load_config(config).place)) as layers:
        check_not_given(layers, version)


def _summary(model: PublishedModel, change: StageChange) -> dict[str, Any]:
    return {
        "version": model.version,
        "stage": change.stage,
        "since_s": change.since_s,
        "published_s": model.published_s,
        "recommender_sha256": model.recommender.sha256,
        "recommender_bytes": model.recommender.size_bytes,
        "classifier_sha256": model.classifier.sha256,
        "classifier_bytes": model.classifier.size_bytes,
    }


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values, each with the path of its names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        elif not isinstance(value, list):  # such as a metric of every epoch: `--json` has it
            yield f"{above}{name}", value


def _time(unix_s: float) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))
