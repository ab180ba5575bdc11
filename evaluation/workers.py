"""All cores: worker processes that end with the process that started them, and what to say when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from evaluation.errors import WorkerError


def usable_cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def process_pool(
    processes: int, what: str, start: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; what is still waiting when the body ends is dropped.

    Args:
        processes: How many.
        what: What they do, for the error.
        start: Called once in each, with ``arguments``.
        arguments: Whatever can be sent to another process.

    Raises:
        WorkerError: If one of them died.
    """
    # Forking a process in which TensorFlow runs threads is not safe, so they start afresh.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _start, (start, arguments))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise WorkerError(
            f"a process {what} died; it may have run out of memory: try fewer workers, or fewer users. "
            "Rows that were done are kept where --out was given; the same command goes on from there"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    # Ctrl-C reaches the whole group: workers go without a word, the first process says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    # A pool's processes would wait for work for ever once the one that feeds them was killed.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
