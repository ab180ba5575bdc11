"""How an update ended: noted on disk, told to the cloud once, and what is of no use any more cleared away."""

from __future__ import annotations

import shutil

from edge.errors import OutboxFullError, StoreError
from edge.round.report import software_version
from edge.round.tools import Tools
from edge.storage.blobs import BlobStore
from edge.updates.release_state import ReleaseFolder, UpdateState
from protocol.messages import MAX_REASON_LENGTH, Updated


class UpdateOutcome:
    """Ends updates.

    Args:
        tools: The service's.
        folder: The device's releases.
        state: How far the update is; shared with whoever carries it on.
    """

    def __init__(self, tools: Tools, folder: ReleaseFolder, state: UpdateState) -> None:
        self._tools = tools
        self._folder = folder
        self._state = state

    @property
    def blobs(self) -> BlobStore:
        """Where a release's files are on their way here."""
        return BlobStore(self._folder.path / "blobs")

    def emit(self, stage: str, **rest: object) -> None:
        """Say how far it is."""
        self._tools.emit({"event": "update", "target": self._state.target, "stage": stage, **rest})

    def end(self, outcome: str, reason: str, *, lasting: bool = False) -> None:
        """Note what came of it, and tell; ``lasting``: this bundle is not to be tried again."""
        self._state.stage = None
        self._state.end(outcome, reason, lasting=lasting)
        try:
            self._folder.write(self._state)
            self.tell()
            self.blobs.keep_only(set())
        except (OSError, StoreError) as error:
            self.emit("unwritten", reason=str(error))

    def tell(self) -> None:
        """Put what came of an update into the outbox, once.

        Raises:
            OSError: If the disk fails.
        """
        state = self._state
        if not state.outcome:
            return
        message = Updated(
            state.offer, state.target, state.outcome, state.reason[:MAX_REASON_LENGTH], software_version()
        )
        try:
            self._tools.store.outbox.add(message)
        except OutboxFullError as error:
            self._tools.emit({"event": "outbox-full", "kind": message.kind, "reason": str(error)})
        except StoreError as error:
            raise OSError(str(error)) from error
        self.emit(state.outcome, reason=state.reason)
        state.outcome = ""
        self._folder.write(state)

    def tidy(self) -> None:
        """Delete releases that neither run nor ran before, and what installing left behind."""
        state = self._state
        kept = {self._folder.current(), state.previous}
        if state.sha256 not in state.failed:
            kept.add(state.release)
        for path in self._folder.path.iterdir():
            if path.is_dir() and not path.is_symlink() and path.name not in {*kept, "blobs", "trust"}:
                shutil.rmtree(path, ignore_errors=True)
        for path in (self._folder.database_copy, self._folder.canary):  # both hold what a user may want forgotten
            path.unlink(missing_ok=True)
