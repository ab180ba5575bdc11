"""Counting the link's bytes; see `profiling.traffic`, which the cloud's side uses too."""

from __future__ import annotations

from profiling.traffic import Traffic

__all__ = ["Traffic"]
