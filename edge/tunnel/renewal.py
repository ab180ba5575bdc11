"""Keeps a running device's certificate current, beside the round and without touching its connection."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge.config import EdgeConfig
from edge.errors import EdgeError
from edge.tunnel.enrolment import renew
from edge.tunnel.session import Emit
from edge.tunnel.validity import validity
from protocol.enrolment import RENEW_BELOW

CHECK_EVERY_S = 6 * 3600.0


def renew_if_due(config: EdgeConfig) -> bool:
    """Renew if less than a third of the certificate's life is left; returns whether it did.

    Raises:
        EdgeError: If it was due and could not be done; the certificate that is there stays.
    """
    if validity(config.cert_file).share_left(time.time()) > RENEW_BELOW:
        return False
    renew(config)
    return True


@contextmanager
def kept_current(config: EdgeConfig, stop: threading.Event, emit: Emit) -> Iterator[None]:
    """Look now, and every few hours while the body runs. The link takes up a new certificate when it next connects.

    ``emit`` is told ``certificate-renewed``, or ``renewal-failed`` with the reason; there are months to try again in.
    """
    done = threading.Event()

    def keep() -> None:
        while not (done.is_set() or stop.is_set()):
            _renew_and_tell(config, emit)
            done.wait(CHECK_EVERY_S * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret

    keeper = threading.Thread(target=keep, name="renewal", daemon=True)
    if config.enrolment_port is not None:
        keeper.start()
    try:
        yield
    finally:
        done.set()


def _renew_and_tell(config: EdgeConfig, emit: Emit) -> None:
    try:
        if renew_if_due(config):
            emit({"event": "certificate-renewed", "device": config.device})
    except (EdgeError, OSError) as error:
        emit({"event": "renewal-failed", "reason": str(error)})
