"""What the cloud keeps on disk beside the pool; any number of processes on one machine may have it open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_broker.answer_store import AnswerStore
from cloud_broker.ledger import Ledger
from cloud_broker.registry import Registry
from cloud_broker.tasks import TaskBook

POOL = "pool"


@dataclass(frozen=True)
class State:
    """Models and blobs, what is known of devices, tasks, and answers that wait to be pulled."""

    registry: Registry
    ledger: Ledger
    tasks: TaskBook
    answers: AnswerStore


@contextmanager
def open_state(directory: Path) -> Iterator[State]:
    """Open what is under ``directory``, or create it.

    Raises:
        StorageError: If what is there cannot be used.
    """
    with ExitStack() as parts:
        registry = parts.enter_context(closing(Registry(directory)))
        ledger = parts.enter_context(closing(Ledger(directory)))
        tasks = parts.enter_context(closing(TaskBook(directory)))
        yield State(registry, ledger, tasks, AnswerStore(directory))
