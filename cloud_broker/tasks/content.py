"""Tasks as content: what one says but for its version, and what is laid over it."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

from cloud_broker.errors import TaskError
from cloud_broker.tasks.layers import EVERYONE
from cloud_broker.tasks.overrides import Overrides
from protocol import envelope
from protocol.messages import Task

NO_VERSION = 0
"""Of a task before it is given one."""

logger = logging.getLogger(__name__)


def digest_of(task: Task) -> str:
    """What a task says but for its version, as a digest."""
    return hashlib.sha256(payload_of(replace(task, version=NO_VERSION))).hexdigest()


def payload_of(task: Task) -> bytes:
    """A task's bytes, as they are kept."""
    return envelope.encode(task, f"task-{task.version}")


def task_of(payload: bytes) -> Task:
    """Inverse of `payload_of`."""
    task = envelope.decode("down", Task.kind, payload).message
    assert isinstance(task, Task)
    return task


def composed(base: Task, label: str, overrides: Overrides) -> tuple[str, Task]:
    """Label and content of a task with changes over everyone's; everyone's where they no longer go together."""
    try:
        return label, overrides.over(base)
    except TaskError:
        # Everyone's recipe was changed since: together they are out of bounds.
        logger.exception("what %s changes cannot be laid over everyone's task, which its devices have instead", label)
        return EVERYONE, base


def will_do(origin: tuple[str, str] | None, label: str, digest: str) -> bool:
    """Whether what a device holds will do: what a layer's devices did need not be done again as everyone's.

    Args:
        origin: Label and digest of what it holds.
        label: Of what is for it.
        digest: Of that.
    """
    return origin is not None and origin[1] == digest and label in (origin[0], EVERYONE)
