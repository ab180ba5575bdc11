"""The demo's processes: started in order, followed by their events, and ended whatever happens."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.progress import Progress

from cloud_broker.mosquitto.broker import Broker, BrokerConfig
from coda.demo_state import DeviceHome
from coda.output import console
from coda.processes import CodaProcess, Event

Events = queue.Queue[tuple[str, Event | None]]

_CLOUD = "cloud"


def run_processes(
    broker_config: BrokerConfig, cloud_config: Path, homes: Mapping[str, DeviceHome], bars: Progress
) -> str:
    """Broker, then cloud until it serves, then all devices until each has delivered its report.

    Returns:
        The broker's version.

    Raises:
        BrokerError: If Mosquitto does not start.
        ChildFailedError: If the cloud or a device ends with an error.
    """
    events: Events = queue.Queue()
    with ExitStack() as running:
        broker = running.enter_context(Broker(broker_config))
        console.print(f"broker: mosquitto {broker.version}, mutual TLS, port {broker_config.port}")
        arguments = ["cloud", "serve", "--config", str(cloud_config)]
        cloud = running.enter_context(CodaProcess(_CLOUD, arguments, cloud_config.parent / "log", events))
        _await_serving(cloud, events, bars)
        _run_devices(running, homes, events, bars, cloud)
        return broker.version


def _await_serving(cloud: CodaProcess, events: Events, bars: Progress) -> None:
    bar = bars.add_task("cloud: starting", total=None)
    while True:
        _, event = events.get()
        if event is None:
            raise cloud.failure()
        if event["event"] == "serving":
            break
        description, amounts = _cloud_progress(event)
        bars.update(bar, description=f"cloud: {description}", **amounts)
    bars.remove_task(bar)


def _cloud_progress(event: Event) -> tuple[str, dict[str, Any]]:
    """What the cloud is at, and how far."""
    if event["event"] == "training":
        text = f"training h0, validation log-loss {event['validation_log_loss']:.4f}"
        return text, {"completed": event["epoch"], "total": event["epochs"]}
    if event["event"] == "embedding":
        return "indexing the pool", {"completed": event["done"], "total": event["total"]}
    if event["event"] == "converted":
        text = f"converted and proved the {event['model']}"
        console.print(f"cloud: {text}: {event['size_bytes'] / 1e3:.0f} kB, SHA-256 {event['sha256'][:12]}")
        return text, {"total": None}
    return str(event["event"]), {"total": None}


def _run_devices(
    running: ExitStack, homes: Mapping[str, DeviceHome], events: Events, bars: Progress, cloud: CodaProcess
) -> None:
    bar = bars.add_task("devices", total=len(homes))
    devices: dict[str, CodaProcess] = {}
    for name, home in homes.items():
        arguments = ["edge", "run", "--once", "--config", str(home.config)]
        devices[name] = running.enter_context(CodaProcess(name, arguments, home.folder / "log", events))
    left = set(devices)
    while left:
        source, event = events.get()
        if event is not None:
            continue
        if source not in devices:
            raise cloud.failure()
        left.discard(source)
        bars.advance(bar)
        if devices[source].exit_code != 0:
            raise devices[source].failure()
    bars.remove_task(bar)
