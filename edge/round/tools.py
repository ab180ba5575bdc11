"""What a round works with."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.config import EdgeConfig
from edge.local_api.turnstile import Turnstile
from edge.scheduling.clock import ClockWatch
from edge.scheduling.gatekeeper import Gatekeeper
from edge.storage.store import Store
from edge.supervision import Supervisor
from edge.tunnel.data_budget import DataBudget
from edge.tunnel.session import Emit, Session
from profiling.data_use import Metering

if TYPE_CHECKING:
    from edge.local_api.serving import LocalApi


@dataclass(frozen=True)
class Tools:
    """What phases work with."""

    config: EdgeConfig
    store: Store
    session: Session
    emit: Emit
    stop: threading.Event
    metering: Metering
    budget: DataBudget
    turnstile: Turnstile
    keeper: Gatekeeper
    supervisor: Supervisor
    clock: ClockWatch
    api: LocalApi | None = None
