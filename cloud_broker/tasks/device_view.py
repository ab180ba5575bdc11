"""The fleet as an operator sees it: who is there, what each device holds, and which task it has."""

from __future__ import annotations

from typing import Any

from cloud_broker.storage.ledger import Ledger
from cloud_broker.tasks.book import TaskBook


def devices(ledger: Ledger, tasks: TaskBook) -> dict[str, dict[str, Any]]:
    """Every device that was ever heard of, has a task or has tags.

    Returns:
        By name: ``online`` (None where it never said), ``seen_s`` (Unix time; None where it was never heard),
        ``board``, ``software``, ``runtime`` and ``models`` (digests) as its last hello said them, ``task`` (version),
        ``rollout`` (name of the rollout or experiment that its task is of; None where it is everyone's), ``arm``,
        ``tags``.
    """
    seen, held, tags = ledger.devices(), tasks.held(), tasks.tags.all()
    versions = {version: _origin(tasks, version) for version in set(held.values())}
    rows = {}
    for name in sorted({*seen, *held, *tags}):
        told = seen.get(name, {})
        version = held.get(name)
        rollout, arm = versions.get(version, (None, None)) if version is not None else (None, None)
        rows[name] = {
            "online": told.get("online"),
            "seen_s": told.get("seen_s"),
            **{what: told.get(what) for what in ("board", "software", "runtime")},
            "models": list(told.get("models", ())),
            "task": version,
            "rollout": rollout,
            "arm": arm,
            "tags": list(tags.get(name, ())),
        }
    return rows


def _origin(tasks: TaskBook, version: int) -> tuple[str | None, str | None]:
    label = tasks.label_of(version)
    if not label:
        return None, None
    number, _, arm = label.partition("/")
    layer = tasks.layers.numbered(int(number))
    return None if layer is None else layer.name, arm or None
