"""Days and purposes of bytes, as `coda edge data` and `coda cloud data` print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coda.output import print_json, results
from profiling.data_use import DayUse

_WAYS = ("payload up", "down", "MQTT up", "down", "TCP up", "down")
_HEADING = f"{'day (UTC)':11} {'purpose':8}" + "".join(f"{way:>12}" for way in _WAYS)


def print_days(
    days: Sequence[DayUse], *, as_json: bool, month: Mapping[str, Any] | None = None, ending: str | None = None
) -> None:
    """Print bytes by day and purpose.

    Args:
        days: What to print.
        as_json: As one document, ``month`` with it, instead of a table with a line at its end.
        month: What is known of the month.
        ending: That line.
    """
    if as_json:
        plain = [{"day": day.day, "purpose": day.purpose, **vars(day.used)} for day in days]
        print_json({"days": plain, **({} if month is None else {"this_month": month})})
        return
    results.print(_HEADING, markup=False)
    for day in days:
        counts = "".join(f"{_count(value):>12}" for value in vars(day.used).values())
        results.print(f"{day.day:11} {day.purpose:8}{counts}", markup=False)
    if ending is not None:
        results.print(ending, markup=False)


def _count(value: int | None) -> str:
    return "not counted" if value is None else str(value)
