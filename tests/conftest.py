"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import signal

from tests.broker_fixtures import fleet_broker, own_broker, peer

# A shell has what it starts in the background ignore SIGINT, and children would inherit that; a handler they do not.
signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["fleet_broker", "own_broker", "peer"]
