"""The device's service: one round and out, or rounds for as long as it runs."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge.config import EdgeConfig
from edge.data_budget import DataBudget
from edge.errors import DataBudgetError, LinkError, StoppedError
from edge.link import Link
from edge.phases import Tools
from edge.renewal import kept_current
from edge.rounds import RoundRunner
from edge.sensing import Sensing
from edge.session import Emit, Session
from edge.store import Store
from profiling.data_use import Metering
from profiling.record import RoundRecord

BUDGET_RETRY_S = 3600.0  # after a month's data did not suffice; a newer task may need less
RETRY_S = 30.0  # after the cloud could not be spoken to; jittered, so that a fleet does not return in step


class EdgeService:
    """Does what the cloud's tasks ask.

    Args:
        config: Who the device is, and where its state and its broker are.
        on_event: Told what happens, as plain values with a name under ``event``: ``phase`` (``status`` begin or end),
            ``progress``, ``message-refused``, ``round-abandoned``, ``recording-lost``, ``round`` (with the whole
            record), ``idle``, ``offline``, ``over-budget``, ``outbox-full``, ``certificate-renewed``,
            ``renewal-failed``, ``stopped``.
    """

    def __init__(self, config: EdgeConfig, on_event: Emit | None = None) -> None:
        self._config = config
        self._emit: Emit = on_event or _ignore

    def run_once(self, stop: threading.Event | None = None) -> RoundRecord | None:
        """Do one round, or finish the one that was cut, and return once the cloud has its report.

        Returns:
            The record; None if the newest task was done before, or if told to stop.

        Raises:
            EdgeError: If the round could not be done; what was done is kept, and the next call goes on from there.
        """
        try:
            stop = stop or threading.Event()
            with self._tools(stop) as (tools, sensing), kept_current(self._config, stop, self._emit):
                record = RoundRunner(tools, sensing).run()
        except StoppedError:
            self._emit({"event": "stopped"})
            return None
        if record is None:
            self._emit({"event": "idle", "reason": "the newest task was done before"})
        return record

    def run_forever(self, stop: threading.Event | None = None) -> None:
        """Do every new task until told to stop. A link that fails is tried again, for ever.

        Raises:
            EdgeError: If something other than the link fails; what was done is kept.
        """
        stop = stop or threading.Event()
        try:
            with self._tools(stop) as (tools, sensing), kept_current(self._config, stop, self._emit):
                while True:
                    self._next_round(tools, sensing)
        except StoppedError:
            self._emit({"event": "stopped"})

    def _next_round(self, tools: Tools, sensing: Sensing) -> None:
        rounds = tools.store.rounds
        runner = RoundRunner(tools, sensing)
        try:
            if rounds.unfinished() is None:
                runner.greet()
                tools.session.await_newer_task(rounds.last_version())
            runner.run()
        except LinkError as error:
            tools.emit({"event": "offline", "reason": str(error)})
            _rest(tools.stop, RETRY_S, error)
        except DataBudgetError as error:
            tools.emit({"event": "over-budget", "reason": str(error)})
            _rest(tools.stop, min(BUDGET_RETRY_S, tools.budget.next_month_s), error)
        finally:
            tools.metering.settle()

    @contextmanager
    def _tools(self, stop: threading.Event) -> Iterator[tuple[Tools, Sensing]]:
        config = self._config
        with Sensing(config, stop) as sensing, Store(config.state_dir) as store, Link(config, stop) as link:

            def emit(event: dict[str, Any]) -> None:
                store.log.write(event)
                self._emit(event)

            session = Session(link, store, emit, config.timeout_s)
            metering = Metering(link.network_by_purpose, store.data_use)
            budget = DataBudget(store.data_use, config.data_budget_bytes_per_month)
            try:
                yield Tools(config, store, session, emit, stop, metering, budget), sensing
            finally:
                metering.settle()


def _rest(stop: threading.Event, seconds: float, reason: Exception) -> None:
    if stop.wait(seconds * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter, not a secret
        raise StoppedError("told to stop") from reason


def _ignore(_event: dict[str, Any]) -> None:
    """Nobody listens."""
