"""Health, readiness and metrics of a process of the cloud, told over HTTP on loopback.

``/healthz`` is 200 while the process does its work, ``/readyz`` while devices can be answered, each else 503 with the
reason; ``/metrics`` is for Prometheus. Nothing of devices is told but counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from cloud_broker.config import CloudConfig
from cloud_broker.errors import ConfigError
from cloud_broker.telling import Event, Telling
from cloud_broker.workers.gateway import Observer

LOOPBACK = "127.0.0.1"
_TIMEOUT_S = 5.0
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Told(Protocol):
    """What can be asked of a process."""

    def healthy(self) -> str | None:
        """None, or what is wrong with it."""

    def ready(self) -> str | None:
        """None, or why devices cannot be answered."""

    def text(self) -> bytes:
        """Its numbers, as Prometheus reads them."""


class Observed:
    """A worker that may be watched.

    Attributes:
        observer: For its gateway.
    """

    def __init__(self, metrics: Any = None) -> None:
        """Watched through ``metrics``, a `WorkerMetrics`; not at all without."""
        self._metrics = metrics
        self.observer: Observer = Observer() if metrics is None else metrics

    def watch(self, up: Callable[[], bool], waiting: Callable[[], int]) -> None:
        """See `WorkerMetrics.watch`."""
        if self._metrics is not None:
            self._metrics.watch(up, waiting)

    def watch_models(self, served: Callable[[], int], embedded_share: Callable[[], float]) -> None:
        """See `WorkerMetrics.watch_models`."""
        if self._metrics is not None:
            self._metrics.watch_models(served, embedded_share)

    def telling(self, tell: Telling) -> Callable[[Event], None]:
        """Counts what is told before it is handed on."""
        if self._metrics is None:
            return tell
        count = self._metrics.count

        def counted(event: Event) -> None:
            count(event)
            tell(event)

        return counted


@contextmanager
def observing(config: CloudConfig, number: int, *, of_several: bool = False) -> Iterator[Observed]:
    """Tell about worker ``number`` while the body runs, if the configuration says where.

    Raises:
        ConfigError: If that port is taken.
    """
    if not config.observe_port:
        yield Observed()
        return
    from cloud_broker.observing.metrics import WorkerMetrics  # noqa: PLC0415 (a cloud that is not watched needs none)

    metrics = WorkerMetrics(config.worker)
    with telling_of(metrics, config.observe_port + (number if of_several else 0)):
        yield Observed(metrics)


@contextmanager
def telling_of(told: Told, port: int) -> Iterator[int]:
    """Answer at a port of loopback while the body runs; gives the port.

    Raises:
        ConfigError: If it is taken.
    """

    class Answers(_Answers):
        about = told

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Answers)
    except OSError as error:
        raise ConfigError(f"observe_port: cannot listen at {LOOPBACK}:{port}: {error.strerror}") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="observing", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class _Answers(BaseHTTPRequestHandler):
    about: Told
    timeout = _TIMEOUT_S
    server_version, sys_version = "coda", ""

    def do_GET(self) -> None:
        """Answer one question."""
        if self.path == "/metrics":
            self._say(HTTPStatus.OK, self.about.text())
        elif self.path in ("/healthz", "/readyz"):
            wrong = self.about.healthy() if self.path == "/healthz" else self.about.ready()
            status = HTTPStatus.OK if wrong is None else HTTPStatus.SERVICE_UNAVAILABLE
            self._say(status, f"{wrong or 'ok'}\n".encode())
        else:
            self._say(HTTPStatus.NOT_FOUND, b"ask for /healthz, /readyz or /metrics\n")

    def _say(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", TEXT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its base's name
        """Say nothing: whoever scrapes knows."""
