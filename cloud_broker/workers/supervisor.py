"""The cloud as several processes: any number of workers, a tender of the pool, jobs; each started again if it ends.

The supervisor itself answers nobody and holds nothing. Whatever of its parts is killed, what was acknowledged is on
disk; what was not is delivered again by the broker, or said again by its device.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from cloud_broker.config import MAX_WORKERS, CloudConfig
from cloud_broker.errors import ConfigError, ProcessFailedError
from cloud_broker.files import serve_alone
from cloud_broker.models.registry import Registry
from cloud_broker.observing.endpoints import telling_of
from cloud_broker.telling import OnEvent, Telling
from cloud_broker.workers.parts import News, Part

_GRACE_S = 20.0  # for a part to drain and end
_LOOK_S = 0.2
_UP = frozenset({"tending", "serving"})

logger = logging.getLogger(__name__)


class Supervisor:
    """Runs a cloud of several workers."""

    def __init__(self, config_file: Path, config: CloudConfig, workers: int, on_event: OnEvent | None = None) -> None:
        """Prepare.

        Args:
            config_file: What the parts read.
            config: What is in it.
            workers: How many.
            on_event: Told what the parts tell, each with its name as ``part``; ``serving`` once all workers do;
                ``ended`` and ``started`` when one had to be started again; ``stopped`` last.

        Raises:
            ConfigError: If a worker lacks its certificate.
            CertificateError: If one cannot be used.
        """
        if not 1 <= workers <= MAX_WORKERS:
            raise ConfigError(f"{workers} workers: from 1 to {MAX_WORKERS} can be run")
        for number in range(1, workers + 1):
            config.of_worker(number).identity.check()
        self._config = config
        self._config_file = config_file
        self._tell = Telling(on_event)
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.tender = self._part("tender", "tend")
        self.workers = [
            self._part(config.of_worker(n).worker, "work", "--number", str(n)) for n in range(1, workers + 1)
        ]

    def run(self, stop: threading.Event) -> None:
        """Train if nothing is published, start everything, and keep it running until ``stop`` is set.

        Raises:
            ProcessFailedError: If a part cannot be started at all.
            StorageError: If the state folder is served already.
        """
        with ExitStack() as parts:
            parts.enter_context(serve_alone(self._config.state_dir))
            if self._config.observe_port:
                from cloud_broker.observing.supervisor_metrics import SupervisorMetrics  # noqa: PLC0415 (as in `observing`)

                parts.enter_context(telling_of(SupervisorMetrics(self.tender, self.workers), self._config.observe_port))
            try:
                if self._train(stop) and self._start([self.tender], stop) and self._start(self.workers, stop):
                    self._tell({"event": "serving", "workers": len(self.workers)})
                    self._keep_running(stop)
            finally:
                self._end()
        self._tell({"event": "stopped"})

    def _part(self, name: str, *arguments: str) -> Part:
        return Part(name, self._config_file, arguments, self._news)

    def _train(self, stop: threading.Event) -> bool:
        if self._published() is not None:
            return True
        job = self._part("training", "train")
        job.start()
        try:
            self._listen_until(lambda: job.exit_code is not None, stop)
        finally:
            job.ask_to_end()
            job.wait(_GRACE_S)
        if job.exit_code and not stop.is_set():
            raise ProcessFailedError(f"training ended with exit code {job.exit_code}; it said why above")
        return not stop.is_set()

    def _start(self, parts: Sequence[Part], stop: threading.Event) -> bool:
        """Start parts and wait until all are up; False if told to stop before."""
        for part in parts:
            part.start()
        self._listen_until(lambda: all(part.up for part in parts) or any(part.start_again_s for part in parts), stop)
        failed = [part for part in parts if part.start_again_s]
        if failed and not stop.is_set():
            raise ProcessFailedError(f"{failed[0].name} ended with exit code {failed[0].exit_code}; it said why above")
        return not stop.is_set()

    def _keep_running(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._listen()
            for part in [self.tender, *self.workers]:
                if part.start_again_s is not None and time.monotonic() >= part.start_again_s:
                    part.start()
                    self._tell({"event": "started", "part": part.name})

    def _listen_until(self, done: Callable[[], bool], stop: threading.Event) -> None:
        while not done() and not stop.is_set():
            self._listen()

    def _listen(self) -> None:
        try:
            part, event = self._news.get(timeout=_LOOK_S)
        except queue.Empty:
            return
        if event is None:
            if part.exit_code is not None and (part is self.tender or part in self.workers):
                delay_s = part.note_end()
                logger.warning("%s ended with exit code %s; it is started again", part.name, part.exit_code)
                self._tell({"event": "ended", "part": part.name, "exit_code": part.exit_code, "again_in_s": delay_s})
        else:
            part.up = part.up or event["event"] in _UP
            told = event if event["event"] != "serving" else event | {"event": "worker"}
            self._tell(told | {"part": part.name})

    def _published(self) -> int | None:
        with closing(Registry(self._config.place)) as registry:
            latest = registry.latest()
        return None if latest is None else latest.version

    def _end(self) -> None:
        """First the workers that hand over to others, then the one for which the broker keeps what is said."""
        first, *others = self.workers
        for parts in (others, [first], [self.tender]):
            for part in parts:
                part.ask_to_end()
            for part in parts:
                part.wait(_GRACE_S)
