"""What comes into the pool: what of it is new, whether it looks like poison, and where it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_broker.pool.columns import PoolColumns, content_keys, identities, rows_of
from cloud_broker.pool.contributions import Entry
from cloud_broker.pool.guards import DAY_S, Standing, suspicion
from cloud_broker.pool.manifest import Manifest
from cloud_broker.pool.options import PoolOptions
from cloud_broker.pool.segments import Location
from protocol.batch_codec import encode_batch
from protocol.errors import MalformedMessageError
from protocol.samples import SampleBatch

MAX_TIME_S = 1 << 40  # what lies beyond is no unix second
_RATE_ROWS = 10_000  # of at most so many samples the pool's share of likes is taken


@dataclass(frozen=True)
class Given:
    """Samples that one contributor gave with one message.

    Attributes:
        contributor: Its name.
        batch: The samples.
        message_id: Names the message; the same contributor's next message of that id changes nothing.
    """

    contributor: str
    batch: SampleBatch
    message_id: str


@dataclass(frozen=True)
class New:
    """What of a gift is new.

    Attributes:
        given: Those samples.
        keys: int64 [n], their content keys.
        payload: They, encoded; empty if there are none.
        reason: Why they are to be quarantined.
    """

    given: Given
    keys: NDArray[np.int64]
    payload: bytes
    reason: str | None


class Intake:
    """Sifts and admits; its caller holds the pool's lock."""

    def __init__(
        self, manifest: Manifest, columns: PoolColumns, options: PoolOptions, clock: Callable[[], float]
    ) -> None:
        self._manifest = manifest
        self._columns = columns
        self._options = options
        self._clock = clock

    def sift(self, gifts: Sequence[Given], *, guarded: bool) -> list[New]:
        """Of each gift that was not heard of before, the samples that its contributor gave neither before nor here.

        Raises:
            OversizeError: If a batch exceeds the codec's bound.
            MalformedMessageError: If an id is outside its vocabulary, a label neither 0 nor 1, or a time none.
        """
        for gift in gifts:
            _check(gift.batch)
        here: dict[str, list[NDArray[np.int64]]] = {}
        heard: set[tuple[str, str]] = set()
        news = []
        for gift in gifts:
            number, name = self._manifest.number(gift.contributor), (gift.contributor, gift.message_id)
            if name in heard or (number is not None and self._manifest.heard(number, gift.message_id)):
                continue
            heard.add(name)
            known = here.setdefault(gift.contributor, [self._identities(self._rows(number))])
            batch, keys = self._unknown(gift.batch, known)
            reason = self._suspicion(batch, number) if guarded and len(batch) else None
            payload = encode_batch(batch) if len(batch) else b""
            news.append(New(Given(gift.contributor, batch, gift.message_id), keys, payload, reason))
        return news

    def admit(self, news: Sequence[New], locations: Sequence[Location]) -> int:
        """List what was written at ``locations``, and give rows to what is not quarantined; how many samples."""
        row, received_s, entries = self._manifest.rows(), self._clock(), []
        for new, at in zip(news, locations, strict=True):
            samples = len(new.keys)
            newest_s = int(new.given.batch.time_s.max(initial=0))
            placed = row if new.reason is None else None
            of = (new.given.contributor, new.given.message_id, samples, at, placed, newest_s, received_s, new.reason)
            entries.append(Entry(*of))
            row += 0 if placed is None else samples
        if entries:
            self._manifest.record(entries)
        for new, entry in zip(news, entries, strict=True):
            if entry.first_row is not None and entry.samples:
                number = self._manifest.number(entry.contributor) or 0
                earlier = rows_of(self._manifest.ranges(number, entry.first_row))
                self._columns.append(entry.first_row, new.given.batch, number, new.keys, earlier)
        return sum(entry.samples for entry in entries if entry.first_row is not None)

    def _rows(self, contributor: int | None) -> NDArray[np.int64]:
        return rows_of(() if contributor is None else self._manifest.ranges(contributor))

    def _identities(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return identities(self._columns.column("content_key")[rows], self._columns.column("time_s")[rows])

    def _unknown(self, batch: SampleBatch, known: list[NDArray[np.int64]]) -> tuple[SampleBatch, NDArray[np.int64]]:
        """What of a batch is not among ``known``, each sample once, at most what one may have; then it is known."""
        keys = content_keys(batch)
        mine = identities(keys, batch.time_s)
        fresh = np.zeros(len(batch), np.bool_)
        fresh[np.unique(mine, return_index=True)[1]] = True
        rows = np.flatnonzero(fresh & ~np.isin(mine, np.concatenate(known)))
        most = self._options.max_samples_per_contributor
        if len(rows) > most:
            rows = np.sort(rows[np.argsort(batch.time_s[rows], kind="stable")[-most:]])
        known.append(mine[rows])
        return batch.take(rows), keys[rows]

    def _suspicion(self, batch: SampleBatch, contributor: int | None) -> str | None:
        now_s, columns = self._clock(), self._columns
        rows, given = self._rows(contributor), 0
        if contributor is not None:
            given = self._manifest.given_since(contributor, now_s - DAY_S)
        mine, items = columns.items(rows), columns.items_of(batch)
        if (lacking := self._options.judged_from_samples - len(batch)) > 0:
            items = np.concatenate([mine[-lacking:], items])
        # What it has itself does not make an item known.
        own = np.isin(items, mine).astype(np.int32)
        standing = Standing(
            now_s=now_s,
            given_last_day=given,
            earlier_labels=columns.column("label")[rows],
            pool_samples=len(columns) - len(rows),
            pool_label_rate=self._label_rate(),
            items=items,
            sharers=columns.sharers[items] - own,
        )
        return suspicion(batch, standing, self._options)

    def _label_rate(self) -> float:
        step = max(1, len(self._columns) // _RATE_ROWS)
        labels = self._columns.column("label")[::step]
        live = self._columns.column("contributor")[::step] > 0
        return float(labels[live].mean()) if live.any() else 0.0


def _check(batch: SampleBatch) -> None:
    """See that labels and times are such as models are trained on; no mean of other labels would tell."""
    labels, times = batch.label, batch.time_s
    if not ((labels == 0) | (labels == 1)).all():
        raise MalformedMessageError("batch: a label is neither 0 nor 1")
    if len(times) and not 0 <= int(times.min()) <= int(times.max()) < MAX_TIME_S:
        raise MalformedMessageError(f"batch: unix seconds are required, got {times.min()} to {times.max()}")
