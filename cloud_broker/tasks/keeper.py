"""Keeps tasks as they should be: everyone's renewed, rollouts taken on or stopped, devices given what is for them.

Done by one worker of a cloud, the first. What it decides is in the database before anybody is told, each step noted
once; killed in between, the next one goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from cloud_broker.config import CloudConfig
from cloud_broker.models.registry import PublishedModel
from cloud_broker.state import State
from cloud_broker.tasks.fleet_gains import recipe_with_gains
from cloud_broker.tasks.layers import ROLLOUT, Layer
from cloud_broker.tasks.orders import heard_of
from cloud_broker.tasks.staging import STOPPED
from cloud_broker.telling import OnEvent
from protocol.messages import Task
from protocol.recipe import Recipe

_CHECK_S = 300.0  # how often to see whether every device has what is for it, though nothing has changed

logger = logging.getLogger(__name__)

Given = list[tuple[str, Task]]


class TaskKeeper:
    """Does so when it is called."""

    def __init__(
        self,
        config: CloudConfig,
        state: State,
        on_event: OnEvent | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        Args:
            config: Says the recipe, and which devices have the task before they say hello.
            state: Where tasks, reports and rollouts are.
            on_event: Told ``rollout-stage`` and ``rollout-stopped``, with the ``rollout`` and why.
            clock: Unix seconds.
        """
        self._config, self._state = config, state
        self._tell = on_event or (lambda _event: None)
        self._clock = clock
        self._seen: int | None = None
        self._due_s = 0.0

    def renew(self, model: PublishedModel) -> Given:
        """Make the task everyone's that says what the fleet has reported by now; who has which task newly."""
        tasks, before = self._state.tasks, self._state.tasks.current()
        told = None if before is None else Recipe.from_dict(before.recipe)
        recipe = recipe_with_gains(self._config.recipe, told, self._state.ledger.gains())
        tasks.make_current(model.schema, recipe, model.recommender, model.classifier, model.rows)
        return tasks.reassign(self._config.devices)

    def step(self) -> Given:
        """Take rollouts on, or stop them, by what was reported; who has which task newly."""
        given = self._reassign()
        for layer in self._state.tasks.layers.on():
            if layer.kind == ROLLOUT and self._look(layer):
                given += self._reassign()
        return given

    def _reassign(self) -> Given:
        """What changes by what others decided: operators, or this one before it was killed."""
        revision = self._state.tasks.layers.revision()
        if revision == self._seen and time.monotonic() < self._due_s:
            return []
        given = self._state.tasks.reassign(self._config.devices)
        self._seen, self._due_s = revision, time.monotonic() + _CHECK_S
        return given

    def _look(self, layer: Layer) -> bool:
        """Whether a rollout was taken a step on, or stopped."""
        assert layer.plan is not None
        tasks = self._state.tasks
        progress = layer.progress.look(layer.plan, heard_of(tasks, layer), self._clock())
        if progress == layer.progress or not tasks.layers.turn(layer, progress):
            return False
        if progress.state == STOPPED:
            logger.warning("rollout %s is stopped: %s", layer.name, progress.reason)
            self._tell({"event": "rollout-stopped", "rollout": layer.name, "reason": progress.reason})
        else:
            percent = layer.plan.stages[progress.stage].percent
            logger.info("rollout %s is %s at %g%% of its cohort", layer.name, progress.state, percent)
            self._tell({"event": "rollout-stage", "rollout": layer.name, "state": progress.state, "percent": percent})
        return True
