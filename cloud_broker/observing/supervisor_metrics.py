"""What the supervisor tells of its parts, for Prometheus and for whoever asks whether the cloud is well."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from cloud_broker.workers.parts import Part


class SupervisorMetrics:
    """Reads the parts when asked."""

    def __init__(self, tender: Part, workers: Sequence[Part]) -> None:
        """Watch these."""
        self._workers = workers
        self.registry = CollectorRegistry()
        up = Gauge("coda_part_up", "Whether a process of the cloud does its work.", ["part"], registry=self.registry)
        again = Gauge("coda_part_restarts", "How often it was started again.", ["part"], registry=self.registry)
        for part in (tender, *workers):
            up.labels(part.name).set_function(lambda part=part: part.up)  # type: ignore[misc]
            again.labels(part.name).set_function(lambda part=part: part.restarts.count)  # type: ignore[misc]

    def healthy(self) -> str | None:
        """The supervisor is, while it answers."""
        return None

    def ready(self) -> str | None:
        """None, or why devices cannot be answered."""
        return None if any(worker.up for worker in self._workers) else "no worker is up"

    def text(self) -> bytes:
        """The numbers, as Prometheus reads them."""
        return generate_latest(self.registry)
