"""What the pool needs beside answering: others' samples are taken in, what is over goes, the index is kept in form."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cloud_broker.errors import CloudError
from cloud_broker.index import SampleIndex

_REFRESH_S = 1.0
_RETAIN_S = 60.0

logger = logging.getLogger(__name__)


@contextmanager
def upkeep(index: SampleIndex) -> Iterator[None]:
    """Keep the pool in form meanwhile; to be done by one process of those that have it open."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=_repeat, args=(stop, *what), daemon=True)
        for what in (("take in samples", index.refresh, _REFRESH_S), ("retain", _retaining(index), _RETAIN_S))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        threads[0].join()  # the other may be making an inverted file, which nobody misses that is not done
        index.close()


def _retaining(index: SampleIndex) -> Callable[[], None]:
    def retain() -> None:
        deleted = index.pool.retain()
        if deleted:
            logger.info("%s samples were too old or too many and are deleted", deleted)
        index.pool.flush()
        index.tidy()

    return retain


def _repeat(stop: threading.Event, what: str, do: Callable[[], None], every_s: float) -> None:
    due_s = 0.0
    while not stop.wait(max(0.0, min(due_s - time.monotonic(), every_s))):
        due_s = time.monotonic() + every_s
        try:
            do()
        except CloudError:
            # Answering goes on; it is tried again.
            logger.exception("the pool's upkeep failed to %s", what)
