"""The global sample pool: what contributors gave, durable on disk and at hand in memory, for all workers of a machine.

{directory}/pool.sqlite       who gave what when, and where it lies: a contribution exists once it is listed here
{directory}/segments/*.seg    encoded batches, appended
{directory}/columns/          the same samples as mapped columns, which all workers share; made again if they are lost
{directory}/derived/          what others make of rows, such as vectors and indices; gone when rows are numbered anew
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_broker.errors import StorageError
from cloud_broker.files import lock_directory, make_private_directory
from cloud_broker.pool.columns import PoolColumns
from cloud_broker.pool.contributions import Held
from cloud_broker.pool.erasing import Eraser, OnErase
from cloud_broker.pool.guards import DAY_S
from cloud_broker.pool.intake import Given, Intake
from cloud_broker.pool.manifest import Manifest
from cloud_broker.pool.opening import agree_on, has_gaps, hold_open, remove_numbered, replay
from cloud_broker.pool.options import PoolOptions
from cloud_broker.pool.pool_rows import PoolRows
from cloud_broker.pool.segments import Location, SegmentLog
from protocol.batch_codec import decode_batch
from protocol.errors import ProtocolError, SchemaMismatchError
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

__all__ = ["Given", "SamplePool"]


class SamplePool(PoolRows):
    """All samples, by row in the order of arrival; writers take turns, readers need not wait.

    Attributes:
        directory: Where it lies.
        schema: Features of its samples.
        options: Its bounds.
    """

    def __init__(
        self,
        directory: Path,
        schema: FeatureSchema | None = None,
        options: PoolOptions | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the pool under ``directory``, or create it for ``schema``.

        Raises:
            StorageError: If there is none and no schema is given, or what is there cannot be read.
            SchemaMismatchError: If the pool there has other features.
        """
        self.directory = make_private_directory(directory)
        self.options = options or PoolOptions()
        self._clock = clock
        self._lock = threading.RLock()
        self._locked = False
        with self.locked():
            self._manifest = Manifest(directory)
            self.schema = agree_on(schema, self._manifest, directory)
            self._segments = SegmentLog(directory / "segments")
            self._segments.cut(self._manifest.end())
            self._segments.check(self._manifest.ends())
            self._eraser = Eraser(directory, self._manifest, self._segments)
            self._manifest.place_waiting()
            self._finalizer, alone = hold_open(self, directory)
            if alone and has_gaps(self._manifest):
                # Before the numbers change: after a crash in between all is made again, by old numbers or new ones.
                remove_numbered(directory)
                self._eraser.erase_segments()
                self._manifest.renumber()
            self._columns = PoolColumns(self.schema, directory / "columns")
            self._settle()
            self._columns.count_sharers()
            self._intake = Intake(self._manifest, self._columns, self.options, clock)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers away, in this process and others; may be entered again by the same thread."""
        with self._lock:
            if self._locked:
                yield
                return
            with lock_directory(self.directory):
                self._locked = True
                try:
                    yield
                finally:
                    self._locked = False

    def add(self, contributor: str, batch: SampleBatch, message_id: str) -> int:
        """Add what one message gave; see `add_many`."""
        return self.add_many([Given(contributor, batch, message_id)])

    def add_many(self, gifts: Iterable[Given]) -> int:
        """Add samples that an operator vouches for; on disk when this returns, all or (on an error) none.

        A message that was added before, and a sample that its contributor gave before, add nothing. Of more samples
        than a contributor may have, the latest are kept.

        Returns:
            How many samples were new.

        Raises:
            SchemaMismatchError: If a batch has other features than the pool.
            OversizeError: If a batch exceeds the codec's bound.
            StorageError: If the disk fails.
        """
        return self._add(list(gifts), guarded=False)

    def contribute(self, contributor: str, batch: SampleBatch, message_id: str, *, agreement: bool = False) -> int:
        """Add what a device gave, or quarantine it if it looks like poison; see `add_many` and `guards`.

        Args:
            contributor: Its name.
            batch: The samples.
            message_id: Names the message.
            agreement: See `allow_agreement`; what was said last counts, for all that it gave.

        Returns:
            How many samples are new in the pool: none if they are in quarantine.
        """
        added = self._add([Given(contributor, batch, message_id)], guarded=True)
        self.allow_agreement([contributor], agreement)
        return added

    def allow_agreement(self, contributors: Iterable[str], allowed: bool) -> None:
        """Note whether contributors' opinions of items may be compared with a device's, to choose samples for it."""
        with self.locked():
            self._manifest.say_agreement(contributors, allowed)

    def forget(self, contributor: str, message_id: str) -> int:
        """Delete what a contributor gave so far, from memory and from disk, for all workers.

        Its rows stay, empty and nobody's, at least until the pool is next opened by one process alone: row numbers are
        in others' hands. What it gave does not come back if an old message comes again, and a request that comes again
        deletes nothing given since.

        Returns:
            How many samples were deleted, those in quarantine too.

        Raises:
            StorageError: If the disk fails; what is not yet erased is when the pool is next written to or opened.
        """
        with self.locked():
            number = self._manifest.number(contributor)
            if number is not None:
                self._manifest.unlist_all(number, message_id)
            # Also if this request was heard before: whoever heard it may have been killed on the way.
            return self._settle()

    def retain(self) -> int:
        """Delete what is too old or too much, by the pool's options; how many samples.

        Raises:
            StorageError: If the disk fails.
        """
        options = self.options
        with self.locked():
            deleted = self._settle()
            if options.max_age_days:
                deleted += self._drop(self._manifest.older_than(self._clock() - options.max_age_days * DAY_S))
            most = options.max_samples_per_contributor
            for contributor in self._manifest.contributors_beyond(most):
                deleted += self._drop(self._manifest.oldest_beyond(most, contributor))
            if self._manifest.live()[1] > options.max_samples:
                deleted += self._drop(self._manifest.oldest_beyond(options.max_samples))
        return deleted

    def held(self) -> list[Held]:
        """What is in quarantine."""
        return self._manifest.held()

    def release(self, number: int) -> int:
        """Take a contribution out of quarantine into the pool; how many of its samples were new there.

        Raises:
            StorageError: If there is none of that number, or the disk fails.
        """
        with self.locked():
            at, held = self._manifest.quarantined(number)
            batch = self._read(at)
            added = self.add(held.contributor, batch, f"released-{number}")
            self._drop([number])
            return added

    def drop(self, number: int) -> int:
        """Delete a contribution that is in quarantine; how many samples.

        Raises:
            StorageError: If there is none of that number, or the disk fails.
        """
        with self.locked():
            self._manifest.quarantined(number)
            return self._drop([number])

    def on_erase(self, eraser: OnErase) -> None:
        """Have ``eraser`` called with rows that this process is about to erase, the pool's lock held.

        For copies elsewhere: what lies under the pool's folder is erased whoever erases.
        """
        self._eraser.on_erase(eraser)

    def flush(self) -> None:
        """Bring the columns to disk, so that nothing has to be made again after a power cut."""
        with self.locked():
            self._columns.flush()

    def close(self) -> None:
        """Close the manifest."""
        self._manifest.close()
        self._finalizer()

    def _add(self, gifts: list[Given], *, guarded: bool) -> int:
        if any(gift.batch.schema != self.schema for gift in gifts):
            raise SchemaMismatchError(f"the pool takes samples of schema {self.schema.digest}, not of another")
        with self.locked():
            self._settle()
            news = self._intake.sift(gifts, guarded=guarded)
            locations = self._segments.append([new.payload for new in news], self._manifest.end()) if news else []
            return self._intake.admit(news, locations)

    def _settle(self) -> int:
        """Do what another process was killed before it had done; how many samples were to be erased."""
        if len(self._columns) < self._manifest.rows():
            replay(self._manifest, self._columns, self._read)
        return self._eraser.erase(self._columns)

    def _drop(self, numbers: list[int]) -> int:
        """Delete some contributions."""
        self._manifest.unlist(numbers)
        return self._settle()

    def _read(self, at: Location) -> SampleBatch:
        try:
            return decode_batch(self._segments.read(at), self.schema)
        except ProtocolError as error:
            raise StorageError(f"the pool at {self.directory} is damaged: {error}") from error
