"""One worker at work: its handlers, its gateway, and until it is told to stop, whatever else falls to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cloud_broker.config import CloudConfig
from cloud_broker.errors import UnavailableError
from cloud_broker.matching.versions import Versions
from cloud_broker.models.preparing import summary
from cloud_broker.observing.endpoints import Observed, observing
from cloud_broker.state import State
from cloud_broker.telling import Telling
from cloud_broker.workers.gateway import Gateway
from cloud_broker.workers.handlers import Handlers
from cloud_broker.workers.steward import Steward

_SETTLE_S = 60.0
_LOOK_S = 1.0  # how often to see what others did: workers, or an operator

logger = logging.getLogger(__name__)


def serve(
    config: CloudConfig,
    state: State,
    versions: Versions,
    *,
    stop: threading.Event,
    tell: Telling,
    number: int = 1,
    of_several: bool = False,
) -> None:
    """Serve until ``stop`` is set.

    Args:
        config: This worker's.
        state: The cloud's.
        versions: The pool as each model sees it; devices are given the newest.
        stop: When to drain and return.
        tell: Told ``serving``, then what `Handlers` tells, and ``taken-up`` when a newer model is served.
        number: Of this worker; the first is the steward, and the broker keeps messages for it while it is away.
        of_several: Whether it is one of several processes.

    Raises:
        ConnectionFailedError: If the broker is not there or does not let us in.
    """
    lead, owed = number == 1, threading.Event()

    def returned() -> None:
        handlers.sharing.forget()
        owed.set()  # done where the database may be waited for: not on a thread that answers

    with observing(config, number, of_several=of_several) as observed:
        handlers = Handlers(
            state.registry,
            versions,
            state.tasks,
            state.ledger,
            observed.telling(tell),
            answers=state.answers,
            hurried=lambda: gateway.hurried,
        )
        gateway = Gateway(
            config.identity,
            config.fleet,
            config.host,
            config.port,
            handlers.respond,
            threads=config.threads,
            patience_s=config.max_wait_s,
            keep_session=lead,
            on_return=returned,
            traffic=handlers.accounts.traffic,
            observer=observed.observer,
        )
        telling = observed.telling(tell)
        steward = Steward(config, state, versions, gateway.send, gateway.withdraw, on_event=telling) if lead else None
        with _settled(handlers, config.worker), gateway, _watched(observed, gateway, versions):
            handlers.sharing.forget()
            if steward is not None:
                steward.leave_tasks()
                steward.withdraw_superseded()
            tell({"event": "serving", "pool": len(versions), **summary(versions.model)})
            _until(
                stop,
                versions,
                handlers=handlers,
                steward=steward,
                owed=owed,
                tell=tell,
                worker=config.worker,
                of_several=of_several,
            )


def _until(
    stop: threading.Event,
    versions: Versions,
    *,
    handlers: Handlers,
    steward: Steward | None,
    owed: threading.Event,
    tell: Telling,
    worker: str,
    of_several: bool,
) -> None:
    due_s, version = time.monotonic() + _SETTLE_S, versions.model.version
    while not stop.wait(_LOOK_S):
        with _unless_away("what is due each second"):
            if of_several:
                versions.look()
                versions.refresh()  # what other workers took in
            if versions.model.version != version:
                version = versions.model.version
                tell({"event": "taken-up", **summary(versions.model)})
            if steward is not None:
                if owed.is_set():
                    steward.leave_tasks()
                    owed.clear()
                steward.step()
            if time.monotonic() >= due_s:
                handlers.accounts.settle(worker)
                due_s = time.monotonic() + _SETTLE_S


@contextmanager
def _unless_away(what: str) -> Iterator[None]:
    """Answering goes on while the database is away, as far as it can; what is not done is tried again."""
    try:
        yield
    except UnavailableError as error:
        logger.warning("%s has to wait: %s", what, error)


@contextmanager
def _settled(handlers: Handlers, worker: str) -> Iterator[None]:
    try:
        yield
    finally:
        with _unless_away("the account of bytes"):
            handlers.accounts.settle(worker)


@contextmanager
def _watched(observed: Observed, gateway: Gateway, versions: Versions) -> Iterator[None]:
    observed.watch(lambda: gateway.up, lambda: gateway.waiting)
    observed.watch_models(lambda: len(versions.served), versions.embedded_share)
    try:
        yield
    finally:
        observed.watch(lambda: False, lambda: gateway.waiting)
