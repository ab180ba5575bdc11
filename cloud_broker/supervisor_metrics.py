"""What the supervisor tells of its parts, for Prometheus and for whoever asks whether the cloud is well."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from cloud_broker.parts import Part


class SupervisorMetrics:
    """Reads the parts when asked."""

    def __init__(self, keeper: Part, workers: Sequence[Part]) -> None:
        """Watch these."""
        self._keeper, self._workers = keeper, workers
        self.registry = CollectorRegistry()
        up = Gauge("coda_part_up", "Whether a process of the cloud does its work.", ["part"], registry=self.registry)
        again = Gauge("coda_part_restarts", "How often it was started again.", ["part"], registry=self.registry)
        for part in (keeper, *workers):
            up.labels(part.name).set_function(lambda part=part: part.up)  # type: ignore[misc]
            again.labels(part.name).set_function(lambda part=part: part.restarts.count)  # type: ignore[misc]

    def healthy(self) -> str | None:
        """The supervisor is, while it answers."""
        return None

    def ready(self) -> str | None:
        """None, or which part devices cannot be answered without."""
        if not self._keeper.up:
            return "the keeper of the pool is not up"
        return None if any(worker.up for worker in self._workers) else "no worker is up"

    def text(self) -> bytes:
        """The numbers, as Prometheus reads them."""
        return generate_latest(self.registry)
