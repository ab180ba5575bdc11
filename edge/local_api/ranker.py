"""Scores candidates with the model that is served, which may be swapped between two requests and never within one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadRequestError, EdgeError, ModelFileError, NoModelError
from edge.feedback.histories import Featuriser
from edge.feedback.labelling import EventRules
from edge.feedback.prior import corrected
from edge.learning.metrics import log_losses
from edge.learning.recommender import Personal, Recommender
from edge.learning.runtime import open_model
from edge.learning.trainer import sigmoid
from edge.scheduling.drift import Drift
from edge.storage.round_store import Serving
from edge.storage.store import Store
from protocol.errors import ProtocolError
from protocol.messages import Task
from protocol.rows import TableRows
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema
from protocol.slots import SlotMap

MAX_CANDIDATES = 20_000
_VERSION_DIGITS = 12


@dataclass(frozen=True)
class Ranking:
    """Candidates from the best to the worst.

    Attributes:
        model: Version of the model that scored all of them.
        items: Their ids.
        scores: Probabilities, as far as the model is calibrated, [n].
        unknown: Ids of candidates that the model has no row for, and scored by their other features.
    """

    model: str
    items: list[int]
    scores: list[float]
    unknown: list[int]


def version_of(serving: Serving) -> str:
    """h0's digest and, where a personal model is over it, the round that made it; shortened."""
    made_by = "" if serving.personal is None else f"-{serving.round_id[:_VERSION_DIGITS]}"
    return serving.model_sha256[:_VERSION_DIGITS] + made_by


class ServedModel:
    """A model as it is served, its weights in place once and for all. Not thread-safe.

    Attributes:
        version: See `version_of`.
        schema: Its features.
        personal: Whether there is a personal model over h0.
    """

    def __init__(self, store: Store, serving: Serving, task: Task, runtime: str | None, threads: int) -> None:
        self.schema = FeatureSchema.from_dict(task.features)
        self.personal = serving.personal is not None
        self.version = version_of(serving)
        self._rows = store.rows
        path = store.blobs.path(serving.model_sha256)
        model = open_model(path, serving.model_sha256, threads, runtime=runtime)
        model.check_features(self.schema)
        self._recommender = Recommender(model, task.rows, store.rows)
        self._weights: Personal | None = serving.personal
        self._recommender.put(serving.personal)
        self._slots: SlotMap | None = None

    def logits(self, samples: SampleBatch) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Logits, float32 [n], and for which samples an id had no row, bool [n]."""
        table = self._recommender.table
        if table is None:
            return self._recommender.model.infer(samples.features), np.zeros(len(samples), np.bool_)
        if (slots := self._slots) is None:
            slots = self._slots = SlotMap(self.schema, table)
        known, without = self._known(samples, table, slots)
        if not slots.fits(known):
            slots = self._slots = SlotMap(self.schema, table)  # the ids of long ago make room
        if not slots.fits(known):
            self._slots = None
            return self._recommender.logits(known, self._weights), without
        before = len(slots.ids)
        slots.admit(known)
        if before == 1 or len(slots.ids) > before:
            self._recommender.fill(slots, self._weights)
        return self._recommender.model.infer(slots.remap(known).features), without

    def _known(self, samples: SampleBatch, table: TableRows, slots: SlotMap) -> tuple[SampleBatch, NDArray[np.bool_]]:
        """The samples with 0, unknown, in place of ids whose rows are not on the device."""
        names = [feature.name for feature in self.schema.features if feature.table == table.table]
        ids = np.unique(np.concatenate([samples.features[name].ravel() for name in names]))
        missing = self._rows.missing(table.version, np.setdiff1d(ids, slots.ids))
        without = np.zeros(len(samples), np.bool_)
        if not len(missing):
            return samples, without
        features = dict(samples.features)
        for name in names:
            gone = np.isin(features[name], missing)
            features[name] = np.where(gone, np.int32(0), features[name])
            without |= gone.reshape(len(samples), -1).any(axis=1)
        return SampleBatch(samples.schema, features, samples.label, samples.time_s), without


class Ranker:
    """The served model behind a lock; safe to use from any thread.

    Args:
        store: Holds the model, its rows and the user's histories.
        rules: How features are made.
        runtime: As `EdgeConfig.runtime`.
        threads: Of the kernels.
    """

    def __init__(self, store: Store, rules: EventRules, runtime: str | None, threads: int) -> None:
        self._store = store
        self._rules = rules
        self._runtime = runtime
        self._threads = threads
        self._lock = threading.Lock()
        self._served: ServedModel | None = None
        self._drift = Drift(None)

    def reload(self) -> str | None:
        """Serve what the store says from the next request on; those under way end with the model they began with.

        Nothing is done where that is served already.

        Returns:
            The version that is served; None before the first round.

        Raises:
            EdgeError: If the model cannot be opened; the one before goes on being served.
            ProtocolError: If its task cannot be read.
        """
        serving, task = self._store.rounds.serving(), self._store.rounds.served_task()
        if serving is not None and version_of(serving) == self.version:
            return self.version
        served = None
        if serving is not None and task is not None:
            served = ServedModel(self._store, serving, task, self._runtime, self._threads)
        with self._lock:
            self._served, self._drift = served, Drift(None if serving is None else self._expected(serving))
        return None if served is None else served.version

    @property
    def version(self) -> str | None:
        """The version that is served."""
        served = self._served
        return None if served is None else served.version

    @property
    def schema(self) -> FeatureSchema | None:
        """The features of samples: the served model's, else the newest task's; None before the first round."""
        served = self._served
        if served is not None:
            return served.schema
        task = self._store.rounds.served_task()
        return None if task is None else FeatureSchema.from_dict(task.features)

    def rank(self, items: list[Any], columns: Mapping[str, Any], context: Mapping[str, Any]) -> Ranking:
        """Rank candidates.

        Args:
            items: Their ids.
            columns: Their other features, one list a feature.
            context: Features of the moment, one value for all.

        Raises:
            BadRequestError: If a value does not fit the model's features.
            NoModelError: If no model is served yet.
            ModelFileError: If the model gives what is no number.
        """
        if not isinstance(items, list) or len(items) > MAX_CANDIDATES:
            raise BadRequestError(f"items: a list of at most {MAX_CANDIDATES} ids is expected")
        with self._lock:
            served = self._need()
            made = Featuriser(served.schema, self._rules, self._store.events.histories)
            features = made.features(items, columns, context)
            nothing = np.zeros(len(items), np.float32)
            logits, without = served.logits(SampleBatch(served.schema, features, nothing, nothing.astype(np.int64)))
        if not np.isfinite(logits).all():
            raise ModelFileError(f"model {served.version} gives scores that are no numbers")
        if served.personal:
            logits = corrected(logits, self._rules.keep_negatives)
        order = np.argsort(-logits, kind="stable")
        ids = features[self._rules.item_feature]
        scores = sigmoid(logits[order]).tolist()
        return Ranking(served.version, ids[order].tolist(), scores, np.unique(ids[without]).tolist())

    def watch(self, samples: SampleBatch) -> None:
        """Take note of how well the served model foretold new samples."""
        with self._lock:
            if self._served is None or self._served.schema != samples.schema:
                return
            try:
                logits, _ = self._served.logits(samples)
            except (EdgeError, ProtocolError):
                return  # whoever asks for a ranking hears of it
            self._drift.see(log_losses(logits, samples.label).tolist())

    def drift(self) -> float | None:
        """How much the served model has aged; see `Drift.value`."""
        return self._drift.value

    def _need(self) -> ServedModel:
        if self._served is None:
            raise NoModelError("no model is here yet: the device's first round brings it")
        return self._served

    def _expected(self, serving: Serving) -> float | None:
        """The served model's loss on the gate's hold-out."""
        which = "holdout_log_loss_h0" if serving.personal is None else "holdout_log_loss_personal"
        records = [record for record in self._store.rounds.records() if record.round_id == serving.round_id]
        found = records[-1].outcome.metrics.get(which) if records else None
        return None if found is None else float(found)
