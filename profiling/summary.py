"""Values of ``summary.json``, read with care: an optional one may be absent, a mistyped one is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiling.errors import RunError

_NUMBERS = (
    "samples_local", "samples_matched", "samples_kept", "elapsed_s", "cpu_user_s", "cpu_system_s", "peak_rss_bytes",
    "payload_up_bytes", "payload_down_bytes", "mqtt_up_bytes", "mqtt_down_bytes", "energy_mj",
)  # fmt: skip


def device_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A device's row with every key present: a number or None, and the gain of CoDA over the cloud's model."""
    auc = {arm: number(mapping(row, "auc"), arm) for arm in ("cloud", "local", "coda")}
    gain = None if auc["coda"] is None or auc["cloud"] is None else auc["coda"] - auc["cloud"]
    words = {name: str(row.get(name) or "") for name in ("device", "decision", "reason")}
    return {**words, "auc": auc, "gain": gain, **{name: number(row, name) for name in _NUMBERS}}


def number(values: Mapping[str, Any], key: str) -> float | None:
    """The number under ``key``; None where it is null or absent.

    Raises:
        RunError: If it is anything else.
    """
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RunError(f"summary.json: {key} must be a number or null, got {value!r:.40}")
    return float(value)


def mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under ``key``; empty where it is null or absent.

    Raises:
        RunError: If it is anything else.
    """
    value = values.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RunError(f"summary.json: {key} must be an object, got {value!r:.40}")
    return value


def add(first: float | None, second: float | None) -> float | None:
    """Their sum, or None where one is not known."""
    return None if first is None or second is None else first + second


def plural(number: int, noun: str) -> str:
    """Such as ``1 device``, ``8 devices``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
