"""The local API beside the service's rounds: started with it, and given each new model."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edge.config import EdgeConfig
from edge.errors import EdgeError
from edge.forgetting import Forgotten
from edge.local_api.api import Api
from edge.local_api.ranker import Ranker
from edge.local_api.server import Server
from edge.local_api.turnstile import Turnstile
from edge.storage.store import Store
from protocol.errors import ProtocolError

ROUND_NICENESS = 10
_SWITCH_S = 0.0005  # the interpreter's default is ten times as long, and an answer takes about a millisecond

Emit = Callable[[dict[str, Any]], None]


class LocalApi:
    """What the service knows of its API.

    Args:
        config: Where it listens.
        store: The device's.
        turnstile: Which training passes.
        emit: Told ``serving`` with the model's version, ``model-unusable``, ``user-forgotten``, and, of an address that
            cannot be had, ``api-unusable`` and once it can ``api-usable``.
    """

    def __init__(self, config: EdgeConfig, store: Store, turnstile: Turnstile, emit: Emit) -> None:
        self._emit = emit
        self.ranker = Ranker(store, config.events, config.runtime, config.threads)
        api = Api(store, config.events, self.ranker, turnstile, self._on_forgotten)
        self._server = Server(api.answer, config.api.socket, config.api.port, self._on_address)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve while the body runs, which is of lower priority from then on, and for good."""
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        self.reload()
        try:
            with self._server:
                # After the server's threads: on Linux niceness is each thread's own, and those to come inherit it.
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ROUND_NICENESS)
                yield
        finally:
            sys.setswitchinterval(interval_s)

    def reload(self) -> None:
        """Serve what the store says; a model that cannot be opened is told, and the one before goes on."""
        before = self.ranker.version
        try:
            version = self.ranker.reload()
        except (EdgeError, ProtocolError) as error:
            self._emit({"event": "model-unusable", "reason": str(error)})
        else:
            if version != before:
                self._emit({"event": "serving", "model": version})

    def _on_address(self, name: str, fault: str | None) -> None:
        if fault is None:
            self._emit({"event": "api-usable", "address": name})
        else:
            self._emit({"event": "api-unusable", "address": name, "reason": f"{fault}; it is tried again"})

    def _on_forgotten(self, what: Forgotten) -> None:
        self.reload()
        self._emit({"event": "user-forgotten", **vars(what)})
