"""Asks the policy before a round and during it, and tells what it said."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from edge.local_api.turnstile import Turnstile
from edge.scheduling.conditions import Conditions
from edge.scheduling.policy import Decision, Policy, State, decide, decide_update
from edge.storage.store import Store

LOOK_S = 20.0  # while a decision stands against a round, or a round goes on
_TELL_AGAIN_S = 3600.0  # a decision that stays the same

Emit = Callable[[dict[str, Any]], None]
DataLeft = Callable[[], int | None]


class Gatekeeper:
    """Decides, logs each decision that is new, and holds a round up whose conditions turn against it.

    Args:
        policy: The owner's.
        conditions: Reads the device.
        store: Tells new samples, and whether a round was ever done.
        data_left: What is left of the month's data.
        turnstile: What training passes.
        emit: Told ``decision``.
        asked: What the task that is to be done, or is being done, asks of the moment; see `protocol.task_policy`.
    """

    def __init__(
        self,
        policy: Policy,
        conditions: Conditions,
        store: Store,
        data_left: DataLeft,
        *,
        turnstile: Turnstile,
        emit: Emit,
        asked: Callable[[], Mapping[str, Any] | None] = lambda: None,
    ) -> None:
        self._policy = policy
        self._conditions = conditions
        self._store = store
        self._data_left = data_left
        self._turnstile = turnstile
        self._emit = emit
        self._asked = asked
        self._told: tuple[bool, tuple[str, ...]] | None = None
        self._told_s = 0.0
        self._refusals: Counter[str] = Counter()
        self._last: Decision | None = None

    def decide(self) -> Decision:
        """Whether a round may begin or go on now; told where it is new, or was last told long ago."""
        return self._decide(self._policy, Policy.of_task(self._asked()))

    def _decide(self, policy: Policy, task: Policy) -> Decision:
        decision = decide(self._look(), policy, task)
        self._last = decision
        self._refusals.update(decision.against)
        news, now_s = (decision.act, decision.against), time.monotonic()
        if news != self._told or now_s - self._told_s > _TELL_AGAIN_S:
            self._told, self._told_s = news, now_s
            self._emit(decision.to_event())
        return decision

    def decide_update(self, *, download_bytes: int, disk_bytes: int, free_bytes: int) -> Decision:
        """Whether a release of the software may be fetched and installed now, by `policy.decide_update`."""
        state = replace(self._look(), free_bytes=free_bytes)
        return decide_update(state, self._policy, download_bytes=download_bytes, disk_bytes=disk_bytes)

    def _look(self) -> State:
        return self._conditions.look(
            new_samples=self._store.samples.new,
            data_left_bytes=self._data_left(),
            first_round=self._store.rounds.last_version() is None,
        )

    @contextmanager
    def watching(self, every_s: float = LOOK_S) -> Iterator[None]:
        """Hold training up, between two steps, while something is against the round that the body does.

        Not for busy processors or few samples: both are the round's own doing. What the budget has to say of data, the
        phases ask themselves.
        """
        done = threading.Event()
        policies = (self._policy, Policy.of_task(self._asked()))
        policy, task = (replace(one, least_idle_cpu=None, least_new_samples=0) for one in policies)

        def watch() -> None:
            while not done.wait(every_s):
                if {*self._decide(policy, task).against} - {"data", "link"}:
                    self._turnstile.close()
                else:
                    self._turnstile.open()

        watcher = threading.Thread(target=watch, name="policy", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self._turnstile.open()
            self._refusals.clear()

    def report(self) -> dict[str, str]:
        """What the policy said of this round, for its record: the last decision, and how often what was against it."""
        if self._last is None:
            return {}
        said = "; ".join(f"{reason.name}: {reason.detail}" for reason in self._last.reasons)
        times = ", ".join(f"{name} {count}" for name, count in sorted(self._refusals.items()))
        return {"policy": said, **({"policy_times_against": times} if times else {})}
