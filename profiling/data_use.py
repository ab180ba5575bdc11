"""What a device or a cloud worker sent and received, by day, account and purpose: on disk, to outlive restarts.

An account is a round on a device, and a worker in a cloud.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, fields
from typing import Any, Protocol

from profiling.network import NetworkBytes

TABLE = """
CREATE TABLE IF NOT EXISTS data_use (
    day TEXT NOT NULL, account TEXT NOT NULL, purpose TEXT NOT NULL,
    payload_up INTEGER NOT NULL, payload_down INTEGER NOT NULL, mqtt_up INTEGER NOT NULL, mqtt_down INTEGER NOT NULL,
    tcp_up INTEGER, tcp_down INTEGER, PRIMARY KEY (day, account, purpose)
) WITHOUT ROWID;
"""

OFTEN_BYTES = 1 << 20  # within a transfer: what a killed device forgets to count is less than this
KEPT_S = 400 * 24 * 3600.0
_WAYS = tuple(f.name for f in fields(NetworkBytes))
# PostgreSQL's sums of large integers are decimals.
_SUMS = ", ".join(f"CAST(sum({way}) AS BIGINT)" for way in _WAYS)
# What the network's owner charges: TCP's bytes, where the kernel counts them.
_CHARGED = "coalesce(tcp_up, mqtt_up) + coalesce(tcp_down, mqtt_down)"


class Executing(Protocol):
    """A transaction that is open."""

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Any:
        """Run a statement."""


class Database(Protocol):
    """The database of either side: a device's is SQLite, a cloud's may be another; every ``?`` is a value."""

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""

    def transaction(self) -> AbstractContextManager[Executing]:
        """Everything inside happens, durably, or nothing does."""


@dataclass(frozen=True)
class DayUse:
    """Bytes of one purpose on one day.

    Attributes:
        day: UTC, as ``2026-01-31``.
        purpose: One of `protocol.purposes.PURPOSES`.
        used: The bytes.
    """

    day: str
    purpose: str
    used: NetworkBytes


class DataUse:
    """Accounts of bytes.

    Args:
        database: Has `TABLE`.
        clock: Unix seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(self, used: Mapping[str, NetworkBytes], account: str | None = None) -> None:
        """Count bytes by purpose, for an account or for none."""
        today, oldest = _day(self._clock()), _day(self._clock() - KEPT_S)
        sums = ", ".join(f"{way} = data_use.{way} + excluded.{way}" for way in _WAYS)
        with self._database.transaction() as rows:
            for purpose, count in used.items():
                rows.execute(
                    f"INSERT INTO data_use VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - fixed names
                    f" ON CONFLICT (day, account, purpose) DO UPDATE SET {sums}",
                    (today, account or "", purpose, *astuple(count)),
                )
            rows.execute("DELETE FROM data_use WHERE day < ?", (oldest,))

    def of(self, account: str) -> dict[str, dict[str, int | None]]:
        """An account's bytes so far: by purpose, the fields of `NetworkBytes` with ``_bytes`` at their end."""
        query = f"SELECT purpose, {_SUMS} FROM data_use WHERE account = ? GROUP BY purpose"  # noqa: S608
        names = [f"{way}_bytes" for way in _WAYS]
        return {
            purpose: dict(zip(names, counts, strict=True)) for purpose, *counts in self._database.rows(query, account)
        }

    def by_day(self) -> list[DayUse]:
        """Every day and purpose, in order."""
        query = f"SELECT day, purpose, {_SUMS} FROM data_use GROUP BY day, purpose ORDER BY day, purpose"  # noqa: S608
        return [DayUse(day, purpose, NetworkBytes(*counts)) for day, purpose, *counts in self._database.rows(query)]

    def charged_this_month(self) -> int:
        """Bytes both ways since the month began (UTC), TLS included."""
        month = _day(self._clock())[:7]
        query = f"SELECT coalesce(sum({_CHARGED}), 0) FROM data_use WHERE substr(day, 1, 7) = ?"  # noqa: S608
        return int(self._database.rows(query, month)[0][0])


class Metering:
    """Writes down what a link carried since it was last asked.

    Args:
        read: The link's bytes by purpose, cumulative.
        use: Where they are written down.
    """

    def __init__(self, read: Callable[[], Mapping[str, NetworkBytes]], use: DataUse) -> None:
        self._read = read
        self._use = use
        self._settled: Mapping[str, NetworkBytes] = read()

    def settle(self, account: str | None = None, *, least_bytes: int = 1) -> None:
        """Write down what is new, for an account or for none; not yet, if it is less than ``least_bytes`` of MQTT."""
        now = self._read()
        new = {purpose: count - self._settled[purpose] for purpose, count in now.items()}
        if sum(count.mqtt_up + count.mqtt_down for count in new.values()) < least_bytes:
            return
        moved = {purpose: count for purpose, count in new.items() if any(astuple(count))}
        if moved:
            self._use.add(moved, account)
        self._settled = now


def _day(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s))
