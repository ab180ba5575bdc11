"""Who asks, as the pool numbers contributors: looked up in its list once, not at every question."""

from __future__ import annotations

from cloud_broker.pool.pool_rows import PoolRows

_MOST_KNOWN = 100_000


class Askers:
    """Numbers of those who asked; safe to use from several threads, beside processes that add to the pool."""

    def __init__(self, pool: PoolRows) -> None:
        self._pool = pool
        self._known: dict[str, tuple[int | None, int]] = {}  # with how many rows there were when it was looked up

    def number(self, name: str) -> int | None:
        """Whose rows are not to be sent to that device; None if it has none.

        Whoever has a number keeps it for as long as the pool is open. Whoever had none has rows only if some came
        since, for a contributor is listed before its rows are there.

        Raises:
            StorageError: If the pool's list cannot be read.
            UnavailableError: If another process has kept it for too long.
        """
        rows = len(self._pool)  # before looking: it may be listed, and its rows come, meanwhile
        number, looked_at = self._known.get(name, (None, -1))
        if number is None and looked_at != rows:
            number = self._pool.contributor_number(name)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[name] = number, rows
        return number
