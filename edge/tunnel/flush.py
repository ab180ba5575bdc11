"""Emptying the outbox on demand: by ourselves, or, where the service runs, by waiting for it."""

from __future__ import annotations

import threading
import time

from edge.config import EdgeConfig
from edge.errors import LinkTimeoutError, StoreBusyError
from edge.storage.database import Database
from edge.storage.store import Store
from edge.tunnel.link import Link
from edge.tunnel.outbox import Outbox
from edge.tunnel.session import Session
from profiling.data_use import Metering

_LOOK_S = 0.2


def flush_outbox(config: EdgeConfig, timeout_s: float, stop: threading.Event | None = None) -> int:
    """Return once nothing waits for the cloud.

    Returns:
        How many messages the cloud took meanwhile.

    Raises:
        LinkError: If the cloud cannot be reached, refuses a message, or does not take all in time.
        StoreError: If the device's store cannot be used.
        StoppedError: If told to stop.
    """
    stop = stop or threading.Event()
    try:
        return _deliver(config, timeout_s, stop)
    except StoreBusyError:  # the service has the connection too, and a second one of its name would break it
        return _await_service(config, timeout_s, stop)


def _deliver(config: EdgeConfig, timeout_s: float, stop: threading.Event) -> int:
    with Store(config.state_dir) as store:
        waiting = len(store.outbox.entries())
        if not waiting:
            return 0
        with Link(config, stop) as link:
            metering = Metering(link.network_by_purpose, store.data_use)
            try:
                Session(link, store, lambda _event: None, timeout_s).deliver_outbox()
            finally:
                metering.settle()
        return waiting


def _await_service(config: EdgeConfig, timeout_s: float, stop: threading.Event) -> int:
    deadline_s = time.monotonic() + timeout_s
    with Database(config.state_dir / "device.db", read_only=True) as database:
        box = Outbox(database)
        at_first = {entry.message_id for entry in box.entries()}
        while left := at_first & {entry.message_id for entry in box.entries()}:
            if time.monotonic() > deadline_s or stop.wait(_LOOK_S):
                raise LinkTimeoutError(
                    f"the running service has not delivered {len(left)} messages in {timeout_s:g} s; it goes on trying"
                )
        return len(at_first)
