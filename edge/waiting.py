"""What the service does between rounds: wait for a task, for leave, or for time to pass, and keep house meanwhile."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from edge.errors import DiskError, StoppedError
from edge.round.tools import Tools
from edge.scheduling.gatekeeper import LOOK_S
from edge.storage.store import Store
from edge.tunnel.session import Session
from edge.updates.updating import Updating
from profiling.data_use import Metering

IDLE_LOOK_S = 10.0  # for what was queued meanwhile


def await_newer_task(tools: Tools, updating: Updating) -> None:
    """Wait, however long, for a task that is newer than the one done last; meanwhile what is queued is delivered."""
    session, last = tools.session, tools.store.rounds.last_version()
    while session.task is None or (last is not None and session.task.version <= last):
        _listen(tools, updating, min(IDLE_LOOK_S, session.greet_again_s()))
        if tools.store.outbox.size_bytes:
            session.deliver_outbox()


def asked_of_the_moment(store: Store, session: Session) -> Mapping[str, Any] | None:
    """The policy of the task whose round is unfinished, or else of the newest."""
    unfinished = store.rounds.unfinished()
    task = session.task if unfinished is None else unfinished.task
    return None if task is None else task.policy


def await_leave(tools: Tools, updating: Updating) -> None:
    """Wait, however long, until the policy lets a round begin or go on."""
    while not tools.keeper.decide().act:
        _listen(tools, updating, LOOK_S)


def _listen(tools: Tools, updating: Updating, seconds: float) -> None:
    updating.look()  # at an offer that was heard on another occasion
    tools.clock.look()
    tools.store.wear.settle_if_due()
    tools.store.events.forget_old_if_due(tools.config.events)
    tools.store.disk.worked()
    if (incoming := tools.session.hear(seconds)) is not None:
        tools.session.settle(incoming)
        updating.look()


def settle(metering: Metering) -> None:
    """Write down the bytes that were used; on a disk that takes nothing, at the next time."""
    with suppress(DiskError):
        metering.settle()


def rest(tools: Tools, seconds: float, reason: Exception) -> None:
    """Let some time pass, jittered, so that a fleet does not return in step.

    Raises:
        StoppedError: If told to stop.
    """
    if tools.supervisor.rest(tools.stop, seconds * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter, not a secret
        raise StoppedError("told to stop") from reason
