"""What a round's phases give each other, as bytes in the store, so that a restart finds it."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from edge.errors import RoundError
from edge.learning.classifier import Classification
from edge.learning.recommender import Personal
from edge.storage.arrays import pack_arrays, pack_rows, unpack_arrays, unpack_rows
from edge.storage.round_store import RoundStore
from profiling.fields import build
from profiling.record import Outcome
from protocol.batch_codec import decode_batch, encode_batch
from protocol.envelope import decode, encode
from protocol.messages import Match
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema


class Artefacts:
    """One round's artefacts by name; reading one that no phase has left raises `RoundError`."""

    def __init__(self, rounds: RoundStore, round_id: str) -> None:
        self._rounds = rounds
        self._round_id = round_id

    def save_local(self, local: SampleBatch) -> None:
        """Freeze the local samples: those that arrive later must not move the hold-out within a round."""
        self._save("local", encode_batch(local))

    def local(self, schema: FeatureSchema) -> SampleBatch:
        """The local samples of this round."""
        return decode_batch(self._load("local"), schema)

    def save_match(self, match: Match) -> None:
        """Keep the cloud's answer to the query."""
        self._save("match", encode(match, self._round_id))

    def match(self) -> Match:
        """The cloud's answer to the query."""
        message = decode("down", Match.kind, self._load("match")).message
        assert isinstance(message, Match)
        return message

    def save_classification(self, found: Classification) -> None:
        """Keep what the classifier said."""
        self._save("classification", pack_arrays({"scores": found.scores, "keep_weights": found.keep_weights}))
        rest = {"heldout_auc": found.heldout_auc, "reason": found.reason}
        self._save("classification-rest", json.dumps(rest).encode())

    def classification(self) -> Classification:
        """What the classifier said."""
        arrays, rest = unpack_arrays(self._load("classification")), json.loads(self._load("classification-rest"))
        return Classification(arrays["scores"], arrays["keep_weights"], rest["heldout_auc"], rest["reason"])

    def save_losses(self, losses: NDArray[np.float32]) -> None:
        """Keep the losses of the fine-tuning."""
        self._save("losses", pack_arrays({"losses": losses}))

    def losses(self) -> NDArray[np.float32]:
        """The losses of the fine-tuning, [steps]."""
        return unpack_arrays(self._load("losses"))["losses"]

    def save_trial(self, personal: Personal) -> None:
        """Keep the model that the gate judges, tuned without its hold-out."""
        self._save_model("trial", personal)

    def trial(self) -> Personal:
        """The model that the gate judges."""
        return self._model("trial")

    def save_personal(self, personal: Personal) -> None:
        """Keep the model to serve if the gate agrees, tuned on all local samples."""
        self._save_model("personal", personal)

    def personal(self) -> Personal:
        """The model to serve if the gate agrees."""
        return self._model("personal")

    def save_dropped(self, local: int) -> None:
        """Keep how many local samples the model has no room for."""
        self._save("dropped", str(local).encode())

    def dropped(self) -> int:
        """How many local samples the model has no room for."""
        return int(self._load("dropped"))

    def save_outcome(self, outcome: Outcome) -> None:
        """Keep what the round came to."""
        self._save("outcome", json.dumps(asdict(outcome)).encode())

    def outcome(self) -> Outcome:
        """What the round came to."""
        return build(Outcome, json.loads(self._load("outcome")), "outcome")

    def mark_reported(self) -> None:
        """Remember that the report is in the outbox; call it in the transaction that puts it there."""
        self._save("reported", b"1")

    @property
    def reported(self) -> bool:
        """Whether the report was put into the outbox."""
        return self._rounds.load(self._round_id, "reported") is not None

    def _save_model(self, name: str, personal: Personal) -> None:
        self._save(name, pack_arrays(personal.weights))
        if personal.rows is not None:
            self._save(f"{name}-rows", pack_rows(personal.rows))

    def _model(self, name: str) -> Personal:
        rows = self._rounds.load(self._round_id, f"{name}-rows")
        return Personal(unpack_arrays(self._load(name)), None if rows is None else unpack_rows(rows))

    def _save(self, name: str, value: bytes) -> None:
        self._rounds.save(self._round_id, name, value)

    def _load(self, name: str) -> bytes:
        value = self._rounds.load(self._round_id, name)
        if value is None:
            raise RoundError(f"round {self._round_id}: its {name} is not in the store")
        return value
