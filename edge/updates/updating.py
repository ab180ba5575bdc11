"""Keeps the device's software up to date: from the cloud's offer to a release on trial, and what came of it.

    offered -> signatures checked -> policy -> download -> install -> switched, on trial -> proven
                   | refused          | waits    | failed    | failed     | rolled back, or inconclusive

Each stage is on disk before it is begun. Whatever ends it, the device runs the release before, and says why.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge.errors import HandOverError, RefusedError, StoppedError, StoreError, UpdateError, UpdateRefusedError
from edge.health import LEAST_FREE_BYTES
from edge.round.tools import Tools
from edge.scheduling.clock import clock_fault
from edge.storage.blobs import BlobStore
from edge.storage.store_copy import keep_copy
from edge.tunnel.fetch import fetch_blob
from edge.updates.canary import Canary
from edge.updates.handover import BASE_VARIABLE, RELEASE_VARIABLE, restore_standard_error
from edge.updates.release_install import DISK_FACTOR, Installer
from edge.updates.release_state import DOWNLOAD, INSTALL, TRIAL, ReleaseFolder
from edge.updates.release_trust import Trusted, check
from edge.updates.trial import Trial
from edge.updates.update_outcome import UpdateOutcome
from profiling.data_use import OFTEN_BYTES
from protocol.errors import ProtocolError
from protocol.messages import BlobRef, Release
from protocol.purposes import SOFTWARE
from protocol.releases import FAILED, INCONCLUSIVE, INSTALLED, INTERRUPTED, MAX_METADATA_BYTES, REFUSED

MAX_ATTEMPTS = (
    5  # of one offer: one that is cut each time, by the device's stop or the broker's, must not go on for ever
)


class Updating:
    """What the service does about releases.

    Args:
        tools: The service's.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._root = tools.config.updates.root
        self._folder = ReleaseFolder(tools.config.state_dir)
        self._state = self._folder.read()
        self._outcome = UpdateOutcome(tools, self._folder, self._state)
        self._canary = Canary(tools.config, tools.store, self._folder.canary)
        self._trusted: tuple[int, Trusted] | None = None
        self._told: tuple[str, ...] = ()

    @property
    def blobs(self) -> BlobStore:
        """Where a release's files are on their way here."""
        return self._outcome.blobs

    def begin(self) -> None:
        """Tell what came of an update before this process began, and, if it is on trial, prove itself.

        Raises:
            HandOverError: If it failed; the release before is the one to run.
            StoppedError: If told to stop.
        """
        try:
            self._begin()
        except OSError as error:  # then the next start tells it, and counts
            self._outcome.emit("unwritten", reason=str(error))

    def _begin(self) -> None:
        state = self._state
        if state.stage in {DOWNLOAD, INSTALL}:
            reason = f"the device stopped in the middle of its {state.stage}; it goes on"
            state.stage = None
            state.end(INTERRUPTED, reason)
        self._outcome.tell()
        if state.stage == TRIAL and os.environ.get(RELEASE_VARIABLE) == state.release:
            self._outcome.emit("proving")
            seen = Trial(self._tools, self._folder, state, self._canary).run()
            state.stage = None
            state.highest = max(state.highest, state.number)
            state.end(INSTALLED, seen)
            self._folder.write(state)
            restore_standard_error()
            self._outcome.tell()
        if state.stage is None and self._folder.path.exists():
            self._outcome.tidy()

    def look(self) -> None:
        """See whether there is a release to install, and do so.

        Raises:
            HandOverError: If a release is installed and is to be tried now.
            LinkError: If the cloud cannot be reached; what is here stays, and the next look goes on.
            StoppedError: If told to stop; the same.
        """
        offer = self._tools.session.release
        if offer is None or offer.target is None or not self._possible or self._settled(offer):
            return
        if not self._knows_time():
            return
        try:
            trusted = self._check(offer, offer.target)
            if self._wanted(trusted) and self._may(trusted):
                self._bring(offer.target, trusted)
        except UpdateRefusedError as error:
            self._outcome.end(REFUSED, str(error))
        except UpdateError as error:
            self._outcome.end(FAILED, str(error), lasting=True)
        except RefusedError as error:
            if not error.lasting:
                raise
            self._outcome.end(FAILED, str(error))
        except (ProtocolError, StoreError, OSError) as error:
            self._outcome.end(FAILED, str(error))

    @property
    def _possible(self) -> bool:
        """Whether releases are wanted, and there is somebody to hand over to."""
        return self._root is not None and BASE_VARIABLE in os.environ and self._state.stage is None

    def _knows_time(self) -> bool:
        """Whether it can be told what is out of date; waits for the clock, as the policy does for its conditions."""
        reason = clock_fault(self._tools.config, self._tools.store.time)
        if reason is not None:
            self._tell_waiting({"clock": reason})
        return reason is None

    def _settled(self, offer: Release) -> bool:
        last = self._state.last
        return last.get("offer") == offer.offer and last.get("outcome") not in {INTERRUPTED, INCONCLUSIVE}

    def _check(self, offer: Release, target: str) -> Trusted:
        """The offer's release, if its signatures vouch for it."""
        if self._trusted is None or self._trusted[0] != offer.offer:
            state = self._state
            if state.offer != offer.offer:
                state.offer, state.target, state.sha256, state.attempts = offer.offer, target, "", 0
            assert offer.metadata is not None
            assert self._root is not None
            if offer.metadata.size_bytes > MAX_METADATA_BYTES:
                raise UpdateRefusedError(f"its metadata have {offer.metadata.size_bytes} bytes")
            metadata = self._fetch(offer.metadata)
            passed_s = self._tools.store.time.look().surely_s
            try:
                self._trusted = (offer.offer, check(self._folder, self._root, metadata, target, passed_s))
            finally:
                metadata.unlink(missing_ok=True)
        return self._trusted[1]

    def _wanted(self, trusted: Trusted) -> bool:
        state = self._state
        state.sha256 = trusted.bundle.sha256
        if trusted.name == self._folder.current():
            self._outcome.end(INSTALLED, "it runs already")
            return False
        if trusted.number <= state.highest:
            highest = f"release {state.highest}, which proved itself here"
            raise UpdateRefusedError(f"release {trusted.number} ({trusted.version}) is not newer than {highest}")
        if trusted.bundle.sha256 in state.failed:
            raise UpdateRefusedError(f"it failed here before: {state.failed[trusted.bundle.sha256]}")
        return True

    def _may(self, trusted: Trusted) -> bool:
        """Ask the policy, and tell what it says against it, where that is new."""
        size_bytes = trusted.bundle.size_bytes
        decision = self._tools.keeper.decide_update(
            download_bytes=0 if trusted.bundle in self.blobs else size_bytes,
            disk_bytes=DISK_FACTOR * size_bytes + LEAST_FREE_BYTES,
            free_bytes=shutil.disk_usage(self._folder.path).free,
        )
        self._tell_waiting({reason.name: reason.detail for reason in decision.reasons if not reason.allows})
        return decision.act

    def _tell_waiting(self, against: dict[str, str]) -> None:
        if tuple(against) != self._told:
            self._told = tuple(against)
            self._outcome.emit("waits" if against else "begins", reasons=against)

    def _bring(self, target: str, trusted: Trusted) -> None:
        state, name = self._state, trusted.name
        if state.attempts >= MAX_ATTEMPTS:
            raise UpdateError(f"it was begun {state.attempts} times, and never came to an end")
        state.target, state.number, state.release = target, trusted.number, name
        state.previous, state.same_ranking = self._folder.current(), trusted.same_ranking
        state.attempts += 1
        if not self._folder.is_whole(name):
            self._begin_stage(DOWNLOAD)
            bundle = self._fetch(trusted.bundle)
            self._begin_stage(INSTALL)
            python, feed = os.environ[BASE_VARIABLE], self._tools.supervisor.alive
            Installer(self._folder, python, self._tools.stop, feed).install(bundle, name)
        self.blobs.keep_only(set())
        self._canary.keep()
        keep_copy(self._tools.config.state_dir, self._folder.database_copy)
        state.starts = state.away_starts = 0
        self._begin_stage(TRIAL)
        self._folder.switch(name)
        raise HandOverError(f"release {trusted.number} ({trusted.version}) is installed, and is to prove itself")

    def _begin_stage(self, stage: str) -> None:
        self._state.stage = stage
        self._folder.write(self._state)
        self._outcome.emit(stage)

    def _fetch(self, ref: BlobRef) -> Path:
        with self._tools.session.link.transferring(SOFTWARE):
            return fetch_blob(self._tools.session, self, ref, self._progress)

    def _progress(self, done: int, total: int) -> None:
        if self._tools.stop.is_set():
            raise StoppedError("told to stop")
        self._tools.metering.settle(least_bytes=OFTEN_BYTES)
        self._tools.emit({"event": "progress", "phase": "update", "done": done, "total": total})
