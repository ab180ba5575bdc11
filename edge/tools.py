"""What a round works with."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.clock import ClockWatch
from edge.config import EdgeConfig
from edge.data_budget import DataBudget
from edge.gatekeeper import Gatekeeper
from edge.session import Emit, Session
from edge.store import Store
from edge.supervision import Supervisor
from edge.turnstile import Turnstile
from profiling.data_use import Metering

if TYPE_CHECKING:
    from edge.serving import LocalApi


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
