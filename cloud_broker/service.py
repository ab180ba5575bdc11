"""The cloud as one process: opens its state, trains if nothing is published, leaves the tasks, and serves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_broker.answers import Outgoing, release_for, task_for
from cloud_broker.config import CloudConfig
from cloud_broker.fleet_gains import recipe_with_gains
from cloud_broker.gateway import Gateway
from cloud_broker.handlers import MATCH_LIFETIME_S, Handlers
from cloud_broker.index import SampleIndex
from cloud_broker.ledger import Ledger
from cloud_broker.pool import SamplePool
from cloud_broker.registry import PublishedModel, Registry
from cloud_broker.sharing import SHARE_LIFETIME_S
from cloud_broker.tasks import TaskBook
from protocol.messages import Task
from protocol.recipe import Recipe

_HOUSEKEEPING_S = 60.0
_RENEWAL_S = 3600.0  # how often to see whether the fleet's reports say something new
_LOOK_S = 1.0  # how often to see whether an operator asks for something

logger = logging.getLogger(__name__)

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class _State:
    """What the cloud keeps on disk."""

    pool: SamplePool
    registry: Registry
    ledger: Ledger
    tasks: TaskBook


@contextmanager
def _open_state(directory: Path) -> Iterator[_State]:
    with ExitStack() as parts:
        pool = parts.enter_context(closing(SamplePool(directory / "pool")))
        registry = parts.enter_context(closing(Registry(directory)))
        ledger = parts.enter_context(closing(Ledger(directory)))
        yield _State(pool, registry, ledger, parts.enter_context(closing(TaskBook(directory))))


@contextmanager
def _settled(handlers: Handlers, worker: str) -> Iterator[None]:
    try:
        yield
    finally:
        handlers.accounts.settle(worker)


class _StoppedError(Exception):
    """Told to stop while training; never leaves this module."""


class CloudService:
    """One cloud worker."""

    def __init__(self, config: CloudConfig, on_event: OnEvent | None = None) -> None:
        """Prepare a service.

        Args:
            config: What to serve, and through which broker.
            on_event: Told, in order: ``training`` after every epoch, ``converted`` for each model and ``published`` (if
                nothing was published before), ``embedding``, ``serving``; then what `Handlers` tells; ``stopped`` last.
                Called from several threads, one at a time.
        """
        self._config = config
        self._on_event = on_event
        self._telling = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set.

        Raises:
            CertificateError: If the worker's certificate cannot be used; told before anything is trained.
            StorageError: If the state cannot be used, or there is no pool to serve.
            TrainingError: If the pool is too small to train on.
            ConverterError: If a trained model cannot be converted.
            ConnectionFailedError: If the broker is not there or does not let us in.
        """
        self._config.identity.check()
        with _open_state(self._config.state_dir) as state:
            try:
                model = self._published_model(state, stop)
                index = self._index(state, model, stop)
            except _StoppedError:
                logger.info("stopped before serving")
            else:
                self._serve(state, model, index, stop)
        self._tell({"event": "stopped"})

    def _published_model(self, state: _State, stop: threading.Event) -> PublishedModel:
        latest = state.registry.latest()
        if latest is not None and latest.schema == state.pool.schema:
            return latest
        # Training needs TensorFlow, serving does not.
        from cloud_broker.publish import publish_models  # noqa: PLC0415

        model = publish_models(state.pool, state.registry, self._config.models, self._tell_unless(stop))
        self._tell({"event": "published", **_summary(model)})
        return model

    def _index(self, state: _State, model: PublishedModel, stop: threading.Event) -> SampleIndex:
        tell = self._tell_unless(stop)
        return SampleIndex(
            state.pool,
            state.registry.blobs.path(model.recommender.sha256),
            model.recommender.sha256,
            rows=state.registry.row_file(model),
            on_progress=lambda done, total: tell({"event": "embedding", "done": done, "total": total}),
        )

    def _serve(self, state: _State, model: PublishedModel, index: SampleIndex, stop: threading.Event) -> None:
        config, tasks = self._config, state.tasks
        self._renew_task(state, model)
        handlers = Handlers(state.registry, index, tasks, state.ledger, self._tell)

        def leave_tasks() -> None:
            """Also those left before: a broker that was killed, or lost its disk, has forgotten them."""
            handlers.sharing.forget()
            for device, task in tasks.assigned().items():
                gateway.send(task_for(device, task))
            for device, release in state.ledger.rollouts.told():
                gateway.send(release_for(device, release))

        gateway = Gateway(
            config.identity,
            config.fleet,
            config.host,
            config.port,
            handlers.respond,
            threads=config.threads,
            on_return=leave_tasks,
            traffic=handlers.accounts.traffic,
        )
        with _settled(handlers, config.worker), gateway:
            leave_tasks()
            for ref in state.registry.superseded(SHARE_LIFETIME_S):
                gateway.withdraw(ref)
            self._tell({"event": "serving", "pool": len(index), **_summary(model)})
            due_s, renew_s = time.monotonic() + _HOUSEKEEPING_S, time.monotonic() + _RENEWAL_S
            while not stop.wait(_LOOK_S):
                for device, request in state.ledger.logs.take_unsent():
                    gateway.send(Outgoing(device, request, request.request_id))
                for device, release in state.ledger.rollouts.news(state.ledger.boards):
                    gateway.send(release_for(device, release))
                if time.monotonic() >= due_s:
                    due_s = time.monotonic() + _HOUSEKEEPING_S
                    state.registry.blobs.expire()
                    state.ledger.forget_answers(MATCH_LIFETIME_S)
                    handlers.accounts.settle(config.worker)
                if time.monotonic() >= renew_s:
                    renew_s = time.monotonic() + _RENEWAL_S
                    for device, task in self._renew_task(state, model):
                        gateway.send(task_for(device, task))

    def _renew_task(self, state: _State, model: PublishedModel) -> list[tuple[str, Task]]:
        """Make the task current that says what the fleet has reported by now; who has it newly."""
        tasks, before = state.tasks, state.tasks.current()
        told = None if before is None else Recipe.from_dict(before.recipe)
        recipe = recipe_with_gains(self._config.recipe, told, state.ledger.gains())
        tasks.make_current(model.schema, recipe, model.recommender, model.classifier, model.rows)
        devices = sorted({*self._config.devices, *tasks.assigned()})
        return [(device, task) for device in devices if (task := tasks.assign(device)) is not None]

    def _tell_unless(self, stop: threading.Event) -> OnEvent:
        """Tells, and ends a long piece of work at its next event once ``stop`` is set."""

        def tell(event: dict[str, Any]) -> None:
            self._tell(event)
            if stop.is_set():
                raise _StoppedError

        return tell

    def _tell(self, event: dict[str, Any]) -> None:
        if self._on_event is not None:
            with self._telling:
                self._on_event(event)


def _summary(model: PublishedModel) -> dict[str, Any]:
    return {
        "model_version": model.version,
        "recommender_sha256": model.recommender.sha256,
        "recommender_bytes": model.recommender.size_bytes,
        "classifier_sha256": model.classifier.sha256,
        "classifier_bytes": model.classifier.size_bytes,
    }
