"""What one worker of a fleet does beside answering: tasks and offers are left, questions put, what is over removed."""

from __future__ import annotations

import time
from collections.abc import Callable

from cloud_broker.config import CloudConfig
from cloud_broker.matching.versions import Versions
from cloud_broker.state import State
from cloud_broker.tasks.keeper import TaskKeeper
from cloud_broker.telling import OnEvent
from cloud_broker.workers.answers import Outgoing, release_for, task_for
from cloud_broker.workers.sharing import SHARE_LIFETIME_S
from protocol.messages import BlobRef

_HOUSEKEEPING_S = 60.0
_RENEWAL_S = 3600.0  # how often to see whether the fleet's reports say something new


class Steward:
    """Does so when `step` is called, about once a second."""

    def __init__(
        self,
        config: CloudConfig,
        state: State,
        versions: Versions,
        send: Callable[[Outgoing], bool],
        withdraw: Callable[[BlobRef], None],
        *,
        on_event: OnEvent | None = None,
    ) -> None:
        """Prepare, and make everyone's task the one that the configuration and the model ask for.

        Args:
            config: Says the recipe, and which devices have the task before they say hello.
            state: Where tasks, rollouts and questions are.
            versions: Whose newest model devices are given.
            send: Hands a message to the broker.
            withdraw: Has the broker forget a blob that the fleet shared.
            on_event: Told what `TaskKeeper` tells.
        """
        self._config, self._state, self._versions = config, state, versions
        self._send, self._withdraw = send, withdraw
        self._keeper = TaskKeeper(config, state, on_event)
        self._given = versions.model.version
        self._owes = False
        self._keeper.renew(versions.model)
        self._due_s = time.monotonic() + _HOUSEKEEPING_S
        self._renew_s = time.monotonic() + _RENEWAL_S

    def leave_tasks(self) -> None:
        """Also those left before: a broker that was killed, or lost its disk, has forgotten them."""
        for device, task in self._state.tasks.assigned().items():
            self._send(task_for(device, task))
        for device, release in self._state.ledger.rollouts.told():
            self._send(release_for(device, release))

    def withdraw_superseded(self) -> None:
        """Have the broker forget the files of models that devices are no longer given."""
        given = {self._versions.model.recommender.sha256, self._versions.model.classifier.sha256}
        for ref in self._state.registry.superseded(SHARE_LIFETIME_S):
            if ref.sha256 not in given:
                self._withdraw(ref)

    def step(self) -> None:
        """Do what is due."""
        state = self._state
        for device, request in state.ledger.logs.take_unsent():
            self._send(Outgoing(device, request, request.request_id))
        for device, release in state.ledger.rollouts.news(state.ledger.boards):
            self._send(release_for(device, release))
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + _HOUSEKEEPING_S
            state.registry.blobs.expire()
            state.answers.expire()
        newer = self._given != self._versions.model.version
        if newer:
            self.withdraw_superseded()
        if self._owes:
            self.leave_tasks()  # what was decided may not have been told: the database was away, or the broker
        self._owes = True
        given = self._keeper.step()
        if newer or time.monotonic() >= self._renew_s:
            self._renew_s = time.monotonic() + _RENEWAL_S
            self._given = self._versions.model.version
            given += self._keeper.renew(self._versions.model)
        for device, task in given:
            self._send(task_for(device, task))
        self._owes = False
