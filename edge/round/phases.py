"""What a round does in each phase. A phase leaves what it gives in the store and names the phase to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from edge.errors import ModelFileError, RefusedError, StoppedError
from edge.learning.classifier import classify
from edge.learning.gate import gate, split_holdout
from edge.learning.model import Model
from edge.learning.personalise import too_few
from edge.learning.profile import build_profile, opinions_of
from edge.learning.recommender import Prepared, Recommender, latest_that_fit
from edge.learning.runtime import file_sha256, open_model
from edge.learning.trainer import Progress, Trainer
from edge.learning.tuning import tune_twice
from edge.round.outcome import outcome_of
from edge.round.tools import Tools
from edge.storage.artefacts import Artefacts
from edge.storage.round_store import StoredRound
from edge.tunnel.fetch import fetch_blob, fetch_published
from edge.tunnel.row_fetch import bring_rows, ids_with_slots, take_rows
from profiling.data_use import OFTEN_BYTES
from profiling.record import Outcome
from protocol.batch_codec import decode_batch
from protocol.errors import OversizeError
from protocol.messages import BlobRef, Match, Message, Query, RefusalCode
from protocol.purposes import MODEL, SAMPLES
from protocol.recipe import Recipe
from protocol.samples import SampleBatch, empty_batch
from protocol.schema import FeatureSchema

TOO_FEW = "served-h0-too-few-samples"


class Phases:
    """The phases of one round, from `sync` to `gate`.

    Raises:
        MalformedMessageError: If the task's features or recipe cannot be read.
    """

    def __init__(self, tools: Tools, stored: StoredRound) -> None:
        self._tools = tools
        self._store = tools.store
        self._round_id = stored.round_id
        self._task = stored.task
        self._recipe = Recipe.from_dict(stored.task.recipe)
        self._schema = FeatureSchema.from_dict(stored.task.features)
        self._kept = Artefacts(tools.store.rounds, stored.round_id)

    def sync(self) -> str:
        """Bring the model files here, and see whether there are enough samples."""
        for ref in (self._task.recommender, self._task.classifier):
            self._fetch_model(ref)
        self._recommender()  # an unfit file shows now
        self._store.events.label_waiting(self._schema, self._tools.config.events)
        found = self._store.samples.all(self._schema)
        local = latest_that_fit(found, self._task.rows)
        with self._store.transaction():
            self._store.samples.note_round()
            self._kept.save_local(local)
            self._kept.save_dropped(len(found) - len(local))
        reason = too_few(local, self._recipe)
        if not reason:
            self._bring_rows("sync", [local])
            return "query"
        if others := self._store.samples.count_of_other_schemas(self._schema):
            reason += f" ({others} samples have other features than the task's)"
        with self._store.transaction():
            self._store.rounds.serve(self._task.recommender.sha256, self._round_id, None)
            self._kept.save_outcome(Outcome(TOO_FEW, reason, len(local), 0, 0))
        return "report"

    def query(self) -> str:
        """Ask for samples like the device's own; the profile holds nothing that the gate will judge by."""
        training, _ = self._split()
        prepared = self._recommender().prepare(training, empty_batch(self._schema))
        profile = build_profile(prepared.trainer, prepared.local, self._recipe)
        query_id = f"{self._round_id}-1"  # the same after a restart, so that the answer is too
        self._tools.metering.settle(self._round_id)
        recipe = replace(self._recipe, match_bytes=self._tools.budget.match_bytes(self._recipe.match_bytes))
        query = profile.query(query_id, self._task.version, self._task.recommender.sha256, recipe)
        session = self._tools.session
        try:
            # Samples that take the line no longer than a chunk would need no asking for chunks.
            inline_bytes = session.window.chunk_bytes(session.link.max_chunk_bytes)
            opinions = opinions_of(training, self._recipe) if self._tools.config.agreement else None
            self._ask(replace(query, inline_bytes=inline_bytes, opinions=opinions))
        except RefusedError as error:
            if error.code != RefusalCode.MALFORMED.value:
                raise
            self._ask(query)  # a cloud that knows neither answers with samples nor opinions
        return "fetch"

    def _ask(self, query: Query) -> None:
        def is_answer(message: Message) -> bool:
            return isinstance(message, Match) and message.query_id == query.query_id

        with self._tools.session.ask(query, is_answer) as answer:
            assert isinstance(answer, Match)
            if answer.samples is not None and answer.data is not None:
                self._store.blobs.put(answer.samples, answer.data)
            self._kept.save_match(replace(answer, data=None))

    def fetch(self) -> str:
        """Bring the matched samples here."""
        match = self._kept.match()
        if match.samples is not None:
            if match.samples.size_bytes > self._recipe.match_bytes:
                raise OversizeError("matched samples", match.samples.size_bytes, self._recipe.match_bytes)
            self._fetch("fetch", match.samples, SAMPLES)
            both = [self._kept.local(self._schema), self._matched()]  # unreadable samples show now
            self._bring_rows("fetch", both, match.rows)
        return "classify"

    def classify(self) -> str:
        """Train the sample classifier and weigh the matched samples."""
        ready = self._prepare()
        training, _ = split_holdout(ready.local, self._recipe.holdout_share)
        progress = self._progress("classify")
        classifier = Trainer(self._classifier())
        found = classify(ready.trainer, classifier, training, ready.matched, self._recipe, on_progress=progress)
        self._kept.save_classification(found)
        return "tune"

    def tune(self) -> str:
        """Fine-tune from h0: once without the gate's hold-out, for the gate, and once on everything, to be served."""
        ready = self._prepare()
        training, _ = split_holdout(ready.local, self._recipe.holdout_share)
        weights = self._kept.classification().keep_weights
        trial, tuned = tune_twice(
            ready.trainer,
            (training, ready.local),
            ready.matched,
            weights,
            self._recipe,
            on_progress=self._progress("tune"),
        )
        with self._store.transaction():
            self._kept.save_trial(ready.personal(trial.weights))
            self._kept.save_personal(ready.personal(tuned.weights))
            self._kept.save_losses(tuned.losses)
        return "gate"

    def gate(self) -> str:
        """Decide on the hold-out which model is served from now on."""
        training, holdout = self._split()
        ready, everything = (
            self._recommender().prepare(holdout, empty_batch(self._schema)),
            len(training) + len(holdout),
        )
        trial = ready.weights(self._kept.trial())
        decision = gate(ready.trainer, trial, ready.local, self._recipe, samples_local=everything)
        with self._store.transaction():
            served = self._kept.personal() if decision.activate else None
            self._store.rounds.serve(self._task.recommender.sha256, self._round_id, served)
            self._kept.save_outcome(
                outcome_of(decision, self._kept, everything, self._matched(), self._tools.session.refused)
            )
        return "report"

    def _split(self) -> tuple[SampleBatch, SampleBatch]:
        return split_holdout(self._kept.local(self._schema), self._recipe.holdout_share)

    def _matched(self) -> SampleBatch:
        match = self._kept.match()
        if match.samples is None:
            return empty_batch(self._schema)
        payload = self._store.blobs.path(match.samples.sha256).read_bytes()
        return decode_batch(payload, self._schema, max_samples=self._recipe.match_samples)

    def _recommender(self) -> Recommender:
        """h0, opened anew for each phase: the buffers of the signatures that the last one used are freed."""
        model = self._open(self._task.recommender)
        model.check_features(self._schema)
        return Recommender(model, self._task.rows, self._store.rows)

    def _prepare(self) -> Prepared:
        """h0 with all samples of the round."""
        return self._recommender().prepare(self._kept.local(self._schema), self._matched())

    def _bring_rows(self, phase: str, batches: Sequence[SampleBatch], block: BlobRef | None = None) -> None:
        """See that the rows of the samples' items are here; ``block`` holds some of them, if there is one."""
        table, rows = self._task.rows, self._store.rows
        if table is None:
            return
        ids, fetch = ids_with_slots(table, *batches), partial(self._fetch, phase)
        if block is not None and len(rows.missing(table.version, ids)):
            take_rows(self._store, table, block, table.slots, fetch)
        bring_rows(self._tools.session, self._store, table, ids, fetch)

    def _classifier(self) -> Model:
        model = self._open(self._task.classifier)
        if model.feature_names != ("content", "outcome"):
            raise ModelFileError(f"the sample classifier takes {model.feature_names}, expected content and outcome")
        return model

    def _open(self, ref: BlobRef) -> Model:
        path = self._fetch_model(ref)
        if file_sha256(path) != ref.sha256:  # spoilt on disk since it came
            self._store.blobs.discard(ref.sha256)
            path = self._fetch_model(ref)
        model = open_model(path, ref.sha256, self._tools.config.threads, runtime=self._tools.config.runtime)
        model.before_step = self._tools.turnstile.let_pass
        return model

    def _fetch_model(self, ref: BlobRef) -> Path:
        with self._tools.session.link.transferring(MODEL):
            return fetch_published(self._tools.session, self._store, ref, self._progress("sync"))

    def _fetch(self, phase: str, ref: BlobRef, purpose: str = MODEL) -> Path:
        with self._tools.session.link.transferring(purpose):
            return fetch_blob(self._tools.session, self._store, ref, self._progress(phase))

    def _progress(self, phase: str) -> Progress:
        def on_progress(done: int, total: int) -> None:
            if self._tools.stop.is_set():
                raise StoppedError("told to stop")
            self._tools.supervisor.alive()
            self._tools.metering.settle(self._round_id, least_bytes=OFTEN_BYTES)
            self._tools.emit({"event": "progress", "phase": phase, "done": done, "total": total})

        return on_progress
