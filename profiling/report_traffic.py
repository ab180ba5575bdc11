"""What the bytes of a run's rounds were for."""

from __future__ import annotations

from collections.abc import Sequence

from profiling import figures, page, units
from profiling.record import RoundRecord

_DEPTHS = ("payload", "mqtt", "tcp")
_WAYS = ("up", "down")


def purpose_table(rounds: Sequence[RoundRecord]) -> str:
    """Mean bytes of a round by purpose; empty where no record tells them apart."""
    telling = [record for record in rounds if record.traffic]
    if not telling:
        return ""
    columns = [page.Column("purpose", words=True)]
    names = (("payload bytes, mean", "payload"), ("MQTT bytes, mean", "mqtt"), ("TCP bytes, mean", "tcp"))
    columns += [page.Column(way, group=group) for group, _ in names for way in _WAYS]
    purposes = list(dict.fromkeys(purpose for record in telling for purpose in record.traffic))
    rows = [[purpose, *(units.size(value) for value in _means(telling, purpose))] for purpose in purposes]
    note = "Until each record was made. TCP bytes, TLS among them, are shared out by the MQTT bytes of the same time."
    return page.section("What the bytes were for", page.paragraph(note, "muted"), page.table(columns, rows))


def _means(rounds: Sequence[RoundRecord], purpose: str) -> list[float | None]:
    """Over all rounds, those without this purpose counting as 0; None where one did not count it."""
    used = [record.traffic.get(purpose, {}) for record in rounds]
    columns = [[one.get(f"{depth}_{way}_bytes", 0) for one in used] for depth in _DEPTHS for way in _WAYS]
    return [None if None in column else figures.mean(column) for column in columns]
