"""The device's service: one round and out, or rounds for as long as it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from edge.config import EdgeConfig
from edge.errors import DataBudgetError, DiskError, ForgottenError, HandOverError, LinkError, StoppedError
from edge.forgetting import forget_blobs
from edge.local_api.turnstile import Turnstile
from edge.memory import give_back
from edge.round.rounds import RoundRunner
from edge.round.tools import Tools
from edge.scheduling.clock import ClockWatch
from edge.scheduling.conditions import Conditions
from edge.scheduling.gatekeeper import Gatekeeper
from edge.scheduling.sensing import Sensing
from edge.storage.store import Clocks, Store
from edge.supervision import Supervisor
from edge.tunnel.data_budget import DataBudget
from edge.tunnel.link import Link
from edge.tunnel.renewal import kept_current
from edge.tunnel.session import Emit, Session
from edge.updates.updating import Updating
from edge.waiting import asked_of_the_moment, await_leave, await_newer_task, rest, settle
from profiling.data_use import Metering
from profiling.record import RoundRecord

if TYPE_CHECKING:
    from edge.local_api.serving import LocalApi

DISK_RETRY_S = 60.0  # after something found no room; what an app tells is tried each time
BUDGET_RETRY_S = 3600.0  # after a month's data did not suffice; a newer task may need less
PREDECESSOR_S = 5.0  # for a process that was killed just now to let go of the store
OPENING_S = 300.0  # a large store on a slow card is checked when it is opened
RETRY_S = 30.0  # after the cloud could not be spoken to; jittered, so that a fleet does not return in step


class EdgeService:
    """Does what the cloud's tasks ask.

    Args:
        config: Who the device is, and where its state and its broker are.
        on_event: Told what happens, as plain values with a name under ``event``: ``phase`` (``status`` begin or end),
            ``progress``, ``message-refused``, ``round-abandoned``, ``recording-lost``, ``round`` (with the whole
            record), ``idle``, ``offline``, ``over-budget``, ``outbox-full``, ``decision``, ``forgotten``, ``serving``,
            ``model-unusable``, ``user-forgotten``, ``disk-unusable``, ``disk-usable``, ``api-unusable``,
            ``api-usable``, ``clock-wrong``, ``clock-right``, ``certificate-renewed``, ``renewal-failed``, ``update``,
            ``stopped``.
        supervisor: Told when the service is ready, what it does, and that its work goes on; None for nobody.
        clocks: As `edge.storage.store.Store` takes them.
    """

    def __init__(
        self,
        config: EdgeConfig,
        on_event: Emit | None = None,
        supervisor: Supervisor | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self._config = config
        self._clocks = clocks
        self._supervisor = supervisor or Supervisor()
        self._emit: Emit = on_event or _ignore

    def run_once(self, stop: threading.Event | None = None) -> RoundRecord | None:
        """Do one round, or finish the one that was cut, and return once the cloud has its report.

        Returns:
            The record; None if the newest task was done before, or if told to stop.

        Raises:
            HandOverError: If another release of the software is to run from now on.
            EdgeError: If the round could not be done; what was done is kept, and the next call goes on from there.
        """
        try:
            stop = stop or threading.Event()
            with self._tools(stop) as (tools, sensing), kept_current(self._config, stop, self._emit):
                Updating(tools).begin()
                tools.keeper.decide()  # told, and left to whoever asked for this round now
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
            HandOverError: If another release of the software is to run from now on.
            EdgeError: If something other than the link fails; what was done is kept.
        """
        stop = stop or threading.Event()
        try:
            with self._tools(stop) as (tools, sensing), kept_current(self._config, stop, self._emit):
                updating = Updating(tools)
                updating.begin()
                while True:
                    self._next_round(tools, sensing, updating)
        except StoppedError:
            self._emit({"event": "stopped"})

    def _next_round(self, tools: Tools, sensing: Sensing, updating: Updating) -> None:
        runner = RoundRunner(tools, sensing)
        try:
            if tools.store.rounds.unfinished() is None:
                runner.greet()
                await_newer_task(tools, updating)
            await_leave(tools, updating)
            with tools.keeper.watching():
                runner.run()
        except ForgottenError as error:
            forget_blobs(tools.store)
            tools.emit({"event": "forgotten", "reason": str(error)})
        except LinkError as error:
            tools.clock.look()  # a refused certificate often is a wrong clock's
            tools.emit({"event": "offline", "reason": str(error)})
            rest(tools, RETRY_S, error)
        except DataBudgetError as error:
            tools.emit({"event": "over-budget", "reason": str(error)})
            rest(tools, min(BUDGET_RETRY_S, tools.budget.next_month_s), error)
        except DiskError as error:
            tools.store.disk.failed(error)
            rest(tools, DISK_RETRY_S, error)
        finally:
            settle(tools.metering)
            tools.store.disk.worked()
            tools.store.wear.settle_if_due()
            tools.store.events.forget_old_if_due(tools.config.events)
            if tools.api is not None:
                tools.api.reload()

    @contextmanager
    def _tools(self, stop: threading.Event) -> Iterator[tuple[Tools, Sensing]]:
        """Open what is there and serve, before anything that may take its time: the clock, the link, a round."""
        config, supervisor = self._config, self._supervisor
        supervisor.starting("opening the store", OPENING_S)
        with (
            Sensing(config, stop, rest=partial(supervisor.rest, stop)) as sensing,
            Store(config.state_dir, self._clocks, patience_s=PREDECESSOR_S) as store,
        ):

            def emit(event: dict[str, Any]) -> None:
                store.log.write(event)
                supervisor.tell(event)
                self._emit(event)

            store.disk.tell = emit
            store.disk.look()
            turnstile = Turnstile(stop, supervisor.alive)
            clock = ClockWatch(config, store.time, emit)
            api = _local_api(config, store, turnstile, emit)
            with api.running() if api else nullcontext(), Link(config, stop, supervisor.alive) as link:
                conditions = Conditions(sensing.root, config.metered_link, api.ranker.drift if api else lambda: None)
                session = Session(link, store, emit, config.timeout_s)
                metering = Metering(link.network_by_purpose, store.data_use)
                budget = DataBudget(store.data_use, config.data_budget_bytes_per_month)
                keeper = Gatekeeper(
                    config.policy,
                    conditions,
                    store,
                    lambda: budget.left_bytes,
                    turnstile=turnstile,
                    emit=emit,
                    asked=partial(asked_of_the_moment, store, session),
                )
                tools = Tools(
                    config, store, session, emit, stop, metering, budget, turnstile, keeper, supervisor, clock, api
                )
                try:
                    with _announced(supervisor):
                        clock.look()
                        yield tools, sensing
                finally:
                    settle(metering)
                    store.wear.settle()


@contextmanager
def _announced(supervisor: Supervisor) -> Iterator[None]:
    """Ready from now until the body ends, which is told before anything is torn down."""
    give_back()
    supervisor.ready("waiting for a task")
    try:
        yield
    except HandOverError:
        raise  # this process goes on, as another release
    except BaseException:
        supervisor.stopping()
        raise
    supervisor.stopping()


def _local_api(config: EdgeConfig, store: Store, turnstile: Turnstile, emit: Emit) -> LocalApi | None:
    if not config.api.on:
        return None
    from edge.local_api.serving import LocalApi  # noqa: PLC0415 (a device without an app need not load it)

    return LocalApi(config, store, turnstile, emit)


def _ignore(_event: dict[str, Any]) -> None:
    """Nobody listens."""
