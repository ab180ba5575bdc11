"""What a worker counts of itself, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cloud_broker.workers.gateway import Observer
from protocol.messages import MESSAGES

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STUCK_S = 60.0
_KINDS = frozenset(kind for direction, kind in MESSAGES if direction == "up")


class WorkerMetrics(Observer):
    """One worker's numbers, each with its name; safe to use from several threads."""

    def __init__(self, worker: str) -> None:
        """Begin at nothing, for the worker of that name."""
        self.registry = CollectorRegistry()
        to = self.registry
        self._served = Counter("coda_messages", "Messages acted on.", ["kind"], registry=to)
        self._put_off = Counter(
            "coda_put_off", "Messages put off: their devices were told to come again.", ["kind"], registry=to
        )
        self._service = Histogram(
            "coda_service_seconds",
            "From taking a message up to its answers handed over.",
            ["kind"],
            buckets=_SECONDS,
            registry=to,
        )
        self._waited = Histogram("coda_wait_seconds", "Before a message was taken up.", buckets=_SECONDS, registry=to)
        self._refused = Counter("coda_refused", "Messages refused.", ["kind", "code"], registry=to)
        self._samples = Counter(
            "coda_samples", "Samples that went to devices, came from them, were deleted.", ["way"], registry=to
        )
        self._rollouts = Counter(
            "coda_task_rollouts",
            "Stages that rollouts of tasks began, and rollouts that stopped.",
            ["what"],
            registry=to,
        )
        self._waiting = Gauge("coda_waiting", "Messages that wait or are being acted on.", registry=to)
        self._connected = Gauge("coda_connected", "Whether the broker hands us messages.", registry=to)
        self._models = Gauge("coda_models_served", "Models whose queries are answered.", registry=to)
        self._embedded = Gauge(
            "coda_embedded_share", "Share of the pool that is embedded for the newest model.", registry=to
        )
        Gauge("coda_worker_info", "Who this is.", ["worker"], registry=to).labels(worker).set(1)
        self.watch(lambda: False, lambda: 0)
        self._served_s = time.monotonic()

    def watch(self, up: Callable[[], bool], waiting: Callable[[], int]) -> None:
        """Say how to see whether the broker is connected, and how much waits."""
        self._up, self._count = up, waiting
        self._connected.set_function(up)
        self._waiting.set_function(waiting)

    def watch_models(self, served: Callable[[], int], embedded_share: Callable[[], float]) -> None:
        """Say how to see how many models are served, and how far the newest is embedded."""
        self._models.set_function(served)
        self._embedded.set_function(embedded_share)

    def served(self, kind: str, waited_s: float, service_s: float) -> None:
        """See `Observer`."""
        self._served_s = time.monotonic()
        known = _known(kind)
        self._served.labels(known).inc()
        self._service.labels(known).observe(service_s)
        self._waited.observe(waited_s)

    def put_off(self, kind: str, retry_after_s: float) -> None:
        """See `Observer`."""
        self._put_off.labels(_known(kind)).inc()

    def count(self, event: dict[str, Any]) -> None:
        """Count what `Handlers` tells."""
        name = event["event"]
        if name == "refused":
            self._refused.labels(_known(event["kind"]), event["code"]).inc()
        elif name in ("matched", "contributed", "forgotten"):
            self._samples.labels(name).inc(event["samples"])
        elif name in ("rollout-stage", "rollout-stopped"):
            self._rollouts.labels(name.removeprefix("rollout-")).inc()

    def healthy(self) -> str | None:
        """None, or what is wrong: messages wait, and nothing has been acted on for a minute."""
        stuck_s = time.monotonic() - self._served_s
        return f"{self._count()} messages wait, none was acted on for {stuck_s:.0f} s" if self._stuck(stuck_s) else None

    def ready(self) -> str | None:
        """None, or why no message can come."""
        return None if self._up() else "the broker is not connected"

    def text(self) -> bytes:
        """The numbers, as Prometheus reads them."""
        return generate_latest(self.registry)

    def _stuck(self, stuck_s: float) -> bool:
        return stuck_s > _STUCK_S and self._count() > 0


def _known(kind: str) -> str:
    """A message's kind as a label: a device may speak on topics of any name, and each label stays in memory."""
    return kind if kind in _KINDS else "unknown"
