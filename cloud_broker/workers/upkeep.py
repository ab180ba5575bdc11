"""What the pool needs beside answering: others' samples are taken in, what is over goes, indices are kept in form.

A newer model is embedded here, too, while those before it are served.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cloud_broker.errors import CloudError, UnavailableError
from cloud_broker.matching.versions import Versions
from cloud_broker.models.preparing import summary
from cloud_broker.telling import OnEvent, StoppedEarlyError

_REFRESH_S = 1.0
_RETAIN_S = 60.0
_PREPARE_S = 2.0
_LOG_S = 10.0  # how often a log line says how far embedding is
_END_S = 5.0  # for a step of embedding to end

logger = logging.getLogger(__name__)


@contextmanager
def upkeep(versions: Versions, tell: OnEvent) -> Iterator[None]:
    """Keep the pool in form meanwhile; to be done by one process of those that have it open.

    Args:
        versions: The pool, as each model sees it.
        tell: Told ``embedding`` while the pool is embedded for a newer model, and ``embedded`` when that is ready.
    """
    stop = threading.Event()
    jobs = (
        ("take in samples", versions.refresh, _REFRESH_S),
        ("embed for a new model", _preparing(versions, tell, stop), _PREPARE_S),
        ("retain", _retaining(versions), _RETAIN_S),
    )
    threads = [threading.Thread(target=_repeat, args=(stop, *job), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        threads[0].join()
        threads[1].join(_END_S)
        # What still runs is making an inverted file, which nobody misses that is not done.
        versions.close()


def _retaining(versions: Versions) -> Callable[[], None]:
    def retain() -> None:
        deleted = versions.pool.retain()
        if deleted:
            logger.info("%s samples were too old or too many and are deleted", deleted)
        versions.pool.flush()
        versions.tidy()

    return retain


def _preparing(versions: Versions, tell: OnEvent, stop: threading.Event) -> Callable[[], None]:
    logged_s = -_LOG_S

    def progress(done: int, total: int) -> None:
        nonlocal logged_s
        if stop.is_set():
            raise StoppedEarlyError
        tell({"event": "embedding", "done": done, "total": total})
        if time.monotonic() >= logged_s + _LOG_S:
            logged_s = time.monotonic()
            logger.info("%s of %s samples are embedded for the newest model", done, total)

    def prepare() -> None:
        if versions.prepare(progress):
            tell({"event": "embedded", **summary(versions.model)})
        versions.look()

    return prepare


def _repeat(stop: threading.Event, what: str, do: Callable[[], None], every_s: float) -> None:
    due_s = 0.0
    while not stop.wait(max(0.0, min(due_s - time.monotonic(), every_s))):
        due_s = time.monotonic() + every_s
        try:
            do()
        except StoppedEarlyError:
            return
        except UnavailableError as error:
            logger.warning("the pool's upkeep could not %s: %s", what, error)
        except CloudError:
            # Answering goes on; it is tried again.
            logger.exception("the pool's upkeep failed to %s", what)
