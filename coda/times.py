"""Moments, as tables print them."""

from __future__ import annotations

from datetime import datetime, timezone


def utc(unix_s: float | None) -> str:
    """A moment to the second, in UTC; a hyphen for none."""
    if unix_s is None:
        return "-"
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
