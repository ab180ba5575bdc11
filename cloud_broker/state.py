"""What the cloud keeps beside the pool; any number of processes may have it open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_broker.models.registry import Registry
from cloud_broker.storage.ledger import Ledger
from cloud_broker.storage.place import Place
from cloud_broker.tasks.book import TaskBook
from cloud_broker.workers.answer_store import AnswerStore

POOL = "pool"


@dataclass(frozen=True)
class State:
    """Models and blobs, what is known of devices, tasks, and answers that wait to be pulled."""

    registry: Registry
    ledger: Ledger
    tasks: TaskBook
    answers: AnswerStore


@contextmanager
def open_state(where: Place | Path) -> Iterator[State]:
    """Open what is there, or create it.

    Raises:
        StorageError: If what is there cannot be used.
        UnavailableError: If the database is away.
    """
    with ExitStack() as parts:
        registry = parts.enter_context(closing(Registry(where)))
        ledger = parts.enter_context(closing(Ledger(where)))
        tasks = parts.enter_context(closing(TaskBook(where)))
        yield State(registry, ledger, tasks, AnswerStore(Place.of(where).state_dir))
