"""A broker that is away while a new release proves itself: it convicts nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos import ChaosProxy
from edge.updates.release_state import MAX_STARTS
from protocol.releases import INCONCLUSIVE, INSTALLED
from tests.broker_fixtures import FleetBroker
from tests.coda.running import settled
from tests.end_to_end.boards import RECIPE, WAIT_S, Board, Yard, board, first_round, yard

__all__ = ["board", "yard"]  # fixtures

pytestmark = pytest.mark.broker


def test_a_broker_that_is_away_convicts_nobody(
    cloud: Any, board: Callable[..., Board], yard: Yard, fleet_broker: FleetBroker
) -> None:
    """A release on trial waits for it, over power cuts that count as no starts; too long, and it goes back.

    It is on no list of releases that failed, and is tried again by itself once the broker is there.
    """
    with ChaosProxy(fleet_broker.host, fleet_broker.port) as line, cloud(RECIPE):
        one = board("update-away", host="127.0.0.1", port=line.port, trial_s=8.0, away_s=8.0)
        first_round(one)
        number = yard.offer(yard.release("0.2.0"))
        one.until_update("trial")
        line.refuse()
        for _ in range(MAX_STARTS):
            one.until_update("broker-away")
            one.cut_power()
        one.until_update("broker-away")
        reason = one.until_update(INCONCLUSIVE)["reason"]
        assert "the broker was away, for this release and any other; reaching the broker (" in reason
        assert (one.running(), one.folder.current()) == (Path(sys.prefix).name, None)
        assert (one.folder.read().failed, one.starts) == ({}, 1 + MAX_STARTS)
        line.refuse(False)
        one.until_update(INSTALLED)
        settled(lambda: (yard.outcome(number, "update-away") or {}).get("outcome") == INSTALLED, WAIT_S)
        assert one.running() == one.folder.current()
