r"""The round as a chain of states, each kept on disk before the next begins.

    sync -> query -> fetch -> classify -> tune -> gate -> report -> closed
      \________ too few samples, or given up __________/

A device that is killed continues in the state where it stood: the phase that was cut is done again, those before it
are not, and their costs stay in the record. The connection is made by the first phase that needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from edge.errors import EdgeError, ModelFileError, OutboxFullError, RefusedError, RoundError
from edge.round.phases import Phases
from edge.round.report import hello, round_record
from edge.round.tools import Tools
from edge.scheduling.sensing import Sensing
from edge.storage.artefacts import Artefacts
from edge.storage.round_store import ABANDONED, DONE, Serving, StoredRound
from edge.storage.wear import mean_per_day
from hardware.board import identify
from profiling.record import Outcome, PhaseRecord, RoundRecord
from protocol.errors import ProtocolError
from protocol.messages import Message, Report
from protocol.schema import FeatureSchema

FIRST = "sync"
REPORT = "report"
CLOSING = "closing"
_TALKING = ("sync", "query", "fetch", REPORT)
MAX_ATTEMPTS = 5  # of one phase, across restarts: one that kills the device each time must not do so for ever


class RoundRunner:
    """Runs one round, or continues the unfinished one.

    Args:
        tools: Configuration, store, session and so on.
        sensing: What tells the round's energy.
    """

    def __init__(self, tools: Tools, sensing: Sensing) -> None:
        self._tools = tools
        self._rounds = tools.store.rounds
        self._board = identify(sensing.root)
        self._sensing = sensing
        self._profiler = sensing.profiler(tools.session.link.network)
        self._kept_phases = 0
        self._phases: Phases | None = None

    def run(self) -> RoundRecord | None:
        """Do what the task asks, once.

        Returns:
            The round's record, or None if the newest task was done before.

        Raises:
            LinkError: If the cloud cannot be reached or does not answer; the round continues with the next call.
            DataBudgetError: If the month's data does not allow it; the same.
            StoppedError: If told to stop; the same.
            StoreError: If the device's disk fails.
        """
        stored = self._rounds.unfinished() or self._begin()
        if stored is None:
            return None
        state = stored.state
        while state != CLOSING:
            state = self._step(stored, state)
        return self._close(stored)

    def _begin(self) -> StoredRound | None:
        """Hear the task. The connection is part of the sync phase, which the round's own sync then continues."""
        with self._measured(FIRST, None):
            self.greet()
            task = self._tools.session.await_task(self._rounds.last_version())
            if task is None:
                return None
            self._tools.budget.check_round(task, self._tools.store.blobs)
            stored = self._rounds.begin(task, FIRST)
            self._tools.metering.settle(stored.round_id)  # the greeting was for this round
        self._rounds.advance(stored.round_id, FIRST, self._new_phases())
        return stored

    def greet(self) -> None:
        """Tell the cloud that this device is here, so that it may leave a task.

        Raises:
            DataBudgetError: If the month's data is used up.
            LinkError: If the cloud cannot be reached.
        """
        self._tools.budget.check_any_left()
        blobs = self._tools.store.blobs.whole()
        self._tools.session.greet(hello(self._tools.config.runtime, self._board, blobs))

    def _step(self, stored: StoredRound, state: str) -> str:
        """Do one phase and keep what it cost; the phase to do next. What is raised here leaves the round unfinished."""
        if state in _TALKING:
            self._tools.budget.check_any_left()
        attempts = self._rounds.count_attempt(stored.round_id)
        try:
            with self._measured(state, stored.round_id):
                following = self._do(stored, state, attempts)
        except (EdgeError, ProtocolError) as error:
            if state == REPORT or not _is_lasting(error):
                self._rounds.advance(stored.round_id, state, self._new_phases())  # to be done again
                raise
            following = self._give_up(stored, state, error)
        self._rounds.advance(stored.round_id, following, self._new_phases())
        return following

    def _do(self, stored: StoredRound, state: str, attempts: int) -> str:
        if state == REPORT:
            return self._report(stored)
        if attempts > MAX_ATTEMPTS:
            raise RoundError(f"the device's process ended {MAX_ATTEMPTS} times in this phase")
        if self._phases is None:
            self._phases = Phases(self._tools, stored)
        following: str = getattr(self._phases, state)()
        return following

    def _give_up(self, stored: StoredRound, state: str, error: Exception) -> str:
        reason = f"given up in {state}: {error}"
        Artefacts(self._rounds, stored.round_id).save_outcome(Outcome(ABANDONED, reason, 0, 0, 0))
        self._tools.emit({"event": "round-abandoned", "round_id": stored.round_id, "reason": reason})
        return REPORT

    def _report(self, stored: StoredRound) -> str:
        """Queue the report, and contributed samples if the owner agreed; return once the cloud has them."""
        kept = Artefacts(self._rounds, stored.round_id)
        if not kept.reported:
            with self._tools.store.transaction():
                self._queue_contributions(stored)
                self._tools.metering.settle(stored.round_id)
                message = Report(stored.round_id, stored.task.version, self._record(stored).to_dict())
                self._queue(message)
                kept.mark_reported()
        self._tools.session.deliver_outbox()
        return CLOSING

    def _queue_contributions(self, stored: StoredRound) -> None:
        if not self._tools.config.contribute:
            return
        samples = self._tools.store.samples
        # Said only where the cloud asks for opinions: one of an earlier version does not know the word.
        agreement = self._tools.config.agreement and bool(stored.task.recipe.get("opinions"))
        for row, contribution in samples.uncontributed(FeatureSchema.from_dict(stored.task.features)):
            if not self._queue(replace(contribution, agreement=agreement or None)):
                return  # samples that found no room stay here and are given another time
            samples.mark_contributed(row)

    def _queue(self, message: Message) -> bool:
        """Put a message into the outbox; False, and told, if that is full."""
        try:
            self._tools.store.outbox.add(message)
        except OutboxFullError as error:
            self._tools.emit({"event": "outbox-full", "kind": message.kind, "reason": str(error)})
            return False
        return True

    def _close(self, stored: StoredRound) -> RoundRecord:
        self._tools.metering.settle(stored.round_id)
        record = self._record(stored)
        state = ABANDONED if record.outcome.decision == ABANDONED else DONE
        self._rounds.close(stored.round_id, state, record)
        self._keep_recording(record)
        serving = self._rounds.serving()
        needed = {stored.task.recommender.sha256, stored.task.classifier.sha256}
        self._tools.store.blobs.keep_only(needed | ({serving.model_sha256} if serving else set()))
        self._tools.store.rows.keep_only(_row_versions(stored, serving))
        self._tools.emit({"event": "round", "record": record.to_dict()})
        return record

    def _keep_recording(self, record: RoundRecord) -> None:
        """A recording that cannot be kept is told and fails no round."""
        folder = self._tools.config.recordings
        if folder is None or not self._profiler.phases:
            return
        try:
            self._profiler.recording(record).save(folder / f"{record.device}.jsonl")
        except OSError as error:
            self._tools.emit({"event": "recording-lost", "round_id": record.round_id, "reason": str(error)})

    def _record(self, stored: StoredRound) -> RoundRecord:
        return round_record(
            stored,
            Artefacts(self._rounds, stored.round_id).outcome(),
            self._rounds.phases(stored.round_id),
            device=self._tools.config.device,
            board=self._board,
            runtime=self._tools.config.runtime,
            measured=self._measured_fields(stored),
        )

    def _measured_fields(self, stored: StoredRound) -> dict[str, Any]:
        fields, budget = self._sensing.round_fields(self._profiler), self._tools.budget
        fields["traffic"] = budget.use.of(stored.round_id)
        fields["conditions"] = {**fields["conditions"], **self._tools.keeper.report()}
        written = mean_per_day(self._tools.store.wear.settle())
        if written is not None:
            fields["conditions"] = {**fields["conditions"], "storage_written_bytes_per_day": written}
        if budget.monthly_bytes is not None:
            month = {"data_budget_bytes_per_month": budget.monthly_bytes, "data_left_bytes": budget.left_bytes}
            fields["conditions"] = {**fields["conditions"], **month}
        return fields

    @contextmanager
    def _measured(self, phase: str, round_id: str | None) -> Iterator[None]:
        event = {"event": "phase", "phase": phase, "round_id": round_id}
        self._tools.emit({**event, "status": "begin"})
        try:
            with self._profiler.phase(phase):
                yield
        finally:
            self._tools.metering.settle(round_id)
        self._tools.emit({**event, "status": "end", "elapsed_s": self._profiler.phases[-1].elapsed_s})

    def _new_phases(self) -> tuple[PhaseRecord, ...]:
        new = self._profiler.phases[self._kept_phases :]
        self._kept_phases += len(new)
        return new


def _row_versions(stored: StoredRound, serving: Serving | None) -> set[str]:
    """Versions of rows that are still of use: the task's, and that of the personal model that is served."""
    served = serving.personal.rows if serving is not None and serving.personal is not None else None
    return {rows.version for rows in (stored.task.rows, served) if rows is not None}


def _is_lasting(error: Exception) -> bool:
    """Whether trying the phase again would fail again."""
    if isinstance(error, RefusedError):
        return error.lasting
    return isinstance(error, (RoundError, ModelFileError, ProtocolError))
