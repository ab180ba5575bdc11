"""What a rollout or an experiment's arm changes of the task that everyone has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cloud_broker.errors import TaskError
from protocol.errors import MalformedMessageError
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from protocol.rows import TableRows
from protocol.task_policy import check_task_policy

_LEARNT = "fleet_gains"


@dataclass(frozen=True)
class TaskModel:
    """A published model, as a task names it.

    Attributes:
        version: The registry's.
        features: The feature schema, plain.
        recommender: h0's file.
        classifier: The sample classifier's.
        rows: The table of which h0's file holds no rows.
    """

    version: int
    features: dict[str, Any]
    recommender: BlobRef
    classifier: BlobRef
    rows: TableRows | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        rows = None if self.rows is None else self.rows.to_dict()
        blobs = {"recommender": vars(self.recommender), "classifier": vars(self.classifier)}
        return {"version": self.version, "features": self.features, **blobs, "rows": rows}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskModel:
        """Inverse of `to_dict`."""
        rows = None if values["rows"] is None else TableRows.from_dict(values["rows"])
        recommender, classifier = (BlobRef(**values[name]) for name in ("recommender", "classifier"))
        return cls(values["version"], values["features"], recommender, classifier, rows)


@dataclass(frozen=True)
class Overrides:
    """Changes to a task; empty for none.

    Attributes:
        recipe: Fields of the recipe, by name.
        policy: What must be so before a round begins; see `protocol.task_policy`.
        model: Instead of the one that everyone has.

    Raises:
        TaskError: If the recipe or the policy cannot be read by a device.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    model: TaskModel | None = None

    def __post_init__(self) -> None:
        if _LEARNT in self.recipe:
            raise TaskError(f"{_LEARNT} is what devices reported: it is learnt, not chosen")
        try:
            Recipe.from_dict(self.recipe)
            check_task_policy(self.policy)
        except MalformedMessageError as error:
            raise TaskError(str(error)) from error

    def __bool__(self) -> bool:
        return bool(self.recipe or self.policy or self.model)

    def __str__(self) -> str:
        said = [f"{name}={value}" for name, value in self.recipe.items()]
        said += [f"policy.{name}={value}" for name, value in self.policy.items()]
        return ", ".join([*said, *([f"model={self.model.version}"] if self.model else [])]) or "nothing"

    def over(self, base: Task) -> Task:
        """The task of everyone with these changes.

        Raises:
            TaskError: If the recipe as a whole is out of bounds.
        """
        try:
            recipe = Recipe.from_dict({**base.recipe, **self.recipe}).to_dict()
        except MalformedMessageError as error:
            raise TaskError(str(error)) from error
        policy = {**(base.policy or {}), **self.policy} or None
        task = replace(base, recipe=recipe, policy=policy)
        if self.model is None:
            return task
        of_model = {name: value for name, value in vars(self.model).items() if name != "version"}
        return replace(task, **of_model)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        model = None if self.model is None else self.model.to_dict()
        return {"recipe": dict(self.recipe), "policy": dict(self.policy), "model": model}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Overrides:
        """Inverse of `to_dict`."""
        model = None if values["model"] is None else TaskModel.from_dict(values["model"])
        return cls(values["recipe"], values["policy"], model)


def read_settings(settings: Sequence[str], what: str) -> dict[str, Any]:
    """``name=value`` texts as values: numbers, ``true`` and ``false`` are read, anything else is text.

    Raises:
        TaskError: If one has no name or no value, or a name comes twice.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (name and equals and text) or name in found:
            raise TaskError(f"{what} {setting!r}: once each, like steps=200")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found
