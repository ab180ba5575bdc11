"""Fixtures that several rooms' tests share."""

from __future__ import annotations

from tests.broker_fixtures import fleet_broker, own_broker, peer

__all__ = ["fleet_broker", "own_broker", "peer"]
