"""The demo: real ratings, a real broker, one cloud process and some device processes; then what it came to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from cloud_broker.models.registry import PublishedModel
from cloud_broker.models.rows import RowFile
from cloud_broker.mosquitto.broker import free_port, write_broker_directory
from coda.demo_data import DemoData, choose_devices, load_or_generate
from coda.demo_run import run_processes
from coda.demo_state import FLEET, DeviceHome, read_published, write_cloud, write_device
from coda.errors import ChildFailedError, FrontDoorError
from coda.judgement import judge
from coda.output import console, progress
from coda.summary import Row, device_row, mean_row, summary_table, write_run
from converters.zoo.names import DEFAULT_RECOMMENDER
from evaluation.metrics import mean_defined
from evaluation.models import model_options
from evaluation.samples import Labels
from hardware.board import identify
from profiling.record import RoundRecord
from profiling.report import write_report
from profiling.run import SUMMARY_VERSION
from protocol.recipe import Recipe


@dataclass(frozen=True)
class DemoOptions:
    """What to run.

    Attributes:
        data: Name or folder of the ratings.
        labels: What a label means.
        devices: How many device processes.
        local_events: Latest events that each device keeps.
        seed: Of every random choice.
        quick: Train h0 for one epoch only.
        model: h0's network.
    """

    data: str
    labels: Labels
    devices: int
    local_events: int
    seed: int
    quick: bool
    model: str = DEFAULT_RECOMMENDER


def run_demo(options: DemoOptions, out: Path | None = None) -> dict[str, Any]:
    """Run the demo and write ``summary.json``, ``rounds.jsonl`` and ``report.html``.

    Returns:
        The summary.

    Raises:
        FrontDoorError: If the folder is in use, or a process of the demo fails.
        CloudError: If the broker cannot be started.
        EvaluationError: If the data cannot be used.
    """
    started_s = time.monotonic()
    run_dir = _make_run_dir(out)
    with progress() as bars:
        data = _prepare(options, bars)
        recipe = Recipe(seed=options.seed)
        broker = write_broker_directory(run_dir / "broker", FLEET, port=free_port())
        cloud_config = write_cloud(run_dir / "cloud", data, broker, _cloud_values(options, recipe))
        homes = {name: write_device(run_dir, name, device, broker) for name, device in data.devices.items()}
        broker_version = run_processes(broker, cloud_config, homes, bars)
        published, table_rows = read_published(cloud_config)
        rows, records = _judge(data, homes, table_rows, recipe, bars)
    summary = {
        "schema_version": SUMMARY_VERSION,
        "created_unix_s": time.time(),
        "elapsed_s": time.monotonic() - started_s,
        "data": _describe_data(options, data),
        "broker": {"name": "mosquitto", "version": broker_version, "tls": True},
        **_describe_rounds(rows, records),
        "models": _describe_models(published),
        "recipe": recipe.to_dict(),
    }
    _show(rows, summary, [*write_run(run_dir, summary, records), write_report(run_dir)])
    return summary


def _make_run_dir(out: Path | None) -> Path:
    run_dir = (out or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")).resolve()
    if run_dir.exists() and any(run_dir.iterdir()):
        raise FrontDoorError(f"{run_dir} is not empty; give another folder to --out, or remove it")
    run_dir.mkdir(parents=True, exist_ok=True)
    return run_dir


def _prepare(options: DemoOptions, bars: Progress) -> DemoData:
    bar = bars.add_task(f"data: {options.data}", total=None)

    def on_download(done_bytes: int, total_bytes: int | None) -> None:
        bars.update(bar, completed=done_bytes, total=total_bytes)

    ratings = load_or_generate(options.data, options.seed, on_download, lambda text: console.print(f"coda: {text}"))
    data = choose_devices(ratings, options.labels, options.devices, options.local_events, options.seed)
    bars.remove_task(bar)
    marked = " (SYNTHETIC)" if ratings.synthetic else ""
    console.print(
        f"data: {ratings.name}{marked}, {len(ratings)} ratings of {ratings.users} users; a pool of "
        f"{len(data.split.pool)} samples; {len(data.devices)} devices of users the cloud has not seen"
    )
    return data


def _cloud_values(options: DemoOptions, recipe: Recipe) -> dict[str, object]:
    """What the cloud's configuration says beside its connection."""
    models = model_options(options.labels, options.seed, options.model)
    models = replace(models, epochs=1) if options.quick else models
    return {"recipe": recipe.to_dict(), "models": asdict(models)}


def _judge(
    data: DemoData, homes: Mapping[str, DeviceHome], table_rows: RowFile | None, recipe: Recipe, bars: Progress
) -> tuple[list[Row], list[RoundRecord]]:
    """Every device's round, and how well the model it now serves ranks its test samples."""
    bar = bars.add_task("test samples", total=len(homes))
    rows, records = [], []
    for name, home in homes.items():
        state = home.read()
        if state.record is None or state.model_file is None:
            raise ChildFailedError(f"{name} ended without a finished round; see {home.folder / 'log'}")
        auc = judge(state.model_file, table_rows, data.devices[name], state.personal, recipe)
        rows.append(device_row(state.record, auc))
        records.append(state.record)
        bars.advance(bar)
    bars.remove_task(bar)
    return rows, records


def _describe_data(options: DemoOptions, data: DemoData) -> dict[str, Any]:
    return {
        "name": data.interactions.name,
        "synthetic": data.interactions.synthetic,
        "labels": options.labels.value,
        "model": options.model,
        "ratings": len(data.interactions),
        "users": data.interactions.users,
        "items": data.interactions.items,
        "pool_samples": len(data.split.pool),
        "seed": options.seed,
        "quick": options.quick,
    }


def _describe_rounds(rows: Sequence[Row], records: Sequence[RoundRecord]) -> dict[str, Any]:
    software = records[0].software
    return {
        "runtime": {"name": software["runtime"], "version": software["runtime-version"]},
        "board": identify().to_dict(),
        "devices": list(rows),
        "mean": mean_row(rows),
        "unmeasured": {what: why for record in records for what, why in record.unmeasured.items()},
        "h0": {"mean_user_auc": mean_defined([row["auc"]["cloud"] for row in rows])},
    }


def _describe_models(published: PublishedModel) -> dict[str, Any]:
    models = {"recommender": published.recommender, "classifier": published.classifier}
    return {
        name: {"sha256": blob.sha256, "size_bytes": blob.size_bytes, "parity": published.lineage["parity"][name]}
        for name, blob in models.items()
    }


def _show(rows: Sequence[Row], summary: Mapping[str, Any], paths: Sequence[Path]) -> None:
    console.print(summary_table(rows, summary["mean"]))
    for what, why in summary["unmeasured"].items():
        console.print(f"not measured: {what} ({why})")
    for path in paths:
        console.print(f"written: {path}")
