"""The models that were published: which of them devices are given, and how each came to be.

A published model is two blobs, the recommender and the sample classifier, with its lineage: the data, the code, the
model before, the training's metrics and the conversion's parity reports. Nothing of it changes; its stage does, see
`cloud_broker.models.stages`. Where the recommender's file holds no rows of its largest table, these lie in a file of
this machine, ``{state folder}/rows/{version}.npy``, beside the pool that is embedded with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, select

from cloud_broker.errors import ModelStageError
from cloud_broker.models.rows import RowFile, write_rows
from cloud_broker.models.stages import Stages
from cloud_broker.storage.blobs import BlobStore
from cloud_broker.storage.database import SharedDatabase, insert
from cloud_broker.storage.place import Place
from cloud_broker.storage.stages import LIVE
from cloud_broker.storage.tables import MODEL
from protocol.messages import BlobRef
from protocol.rows import RowTable, TableRows
from protocol.schema import FeatureSchema

_ADD = insert(MODEL).returning(MODEL.c.version)
_FIND = select(MODEL).where(MODEL.c.version.in_(bindparam("versions", expanding=True)))
_TIMES = 4  # a model is live as often, going back and forth, before it hides one that was live before
_MOST_ENDED = 32  # models that end within a day or so
_VERSIONS = select(MODEL.c.version).order_by(MODEL.c.version.desc())


@dataclass(frozen=True)
class PublishedModel:
    """A recommender with the classifier that goes with it.

    Attributes:
        version: Rises with every publication.
        published_s: Unix time.
        schema: The features both were made for.
        recommender: h0's file.
        classifier: The sample classifier's file.
        lineage: How it came to be: ``parent`` (the model that was live then), and what was given to `publish`, such as
            ``data``, ``code``, ``options``, ``metrics`` and ``parity``, as plain values.
        rows: The table of which the recommender's file holds no rows; None where it holds everything.
    """

    version: int
    published_s: float
    schema: FeatureSchema
    recommender: BlobRef
    classifier: BlobRef
    lineage: dict[str, Any]
    rows: TableRows | None = None


class Registry:
    """Published models and the blobs they are made of; safe to use from several threads.

    Attributes:
        blobs: Every blob that a device may pull.
        stages: Which stage each model is in.
    """

    def __init__(self, where: Place | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the registry, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self.blobs = BlobStore(where, clock=clock)
        self._database = SharedDatabase(where)
        self.stages = Stages(self._database, clock)
        self._clock = clock
        self._rows = Place.of(where).state_dir / "rows"

    def publish(
        self,
        schema: FeatureSchema,
        recommender: bytes,
        classifier: bytes,
        lineage: dict[str, Any],
        rows: RowTable | None = None,
        *,
        stage: str = LIVE,
    ) -> PublishedModel:
        """Store a recommender and its classifier as a model, by default as the one that is live.

        Args:
            schema: The features both were made for.
            recommender: The file's bytes.
            classifier: The file's bytes.
            lineage: Plain values, JSON at heart.
            rows: What the recommender's file does not hold.
            stage: Live or candidate.

        Raises:
            StorageError: If the disk fails.
        """
        blobs = [self.blobs.put(recommender), self.blobs.put(classifier)]
        if rows is not None:
            write_rows(self._rows / f"{rows.description.version}.npy", rows.values)
        now_s = self._clock()
        row = {
            "published_s": now_s,
            "features": schema.to_dict(),
            "recommender": blobs[0].sha256,
            "classifier": blobs[1].sha256,
            "lineage": {"parent": self.stages.live(), **lineage},
            "rows": None if rows is None else rows.description.to_dict(),
        }
        with self._database.transaction() as database:
            version = database.scalars(_ADD, row).one()
            self.stages.begin(database, version, stage, now_s)
        return self.find(version)

    def find(self, version: int) -> PublishedModel:
        """A model by its version.

        Raises:
            ModelStageError: If there is none.
            UnknownBlobError: If one of its blobs is gone.
        """
        for model in self._models([version]):
            return model
        raise ModelStageError(f"there is no model {version}: see `coda cloud models list`")

    def latest(self) -> PublishedModel | None:
        """The live model, which devices are given; None before the first.

        Raises:
            UnknownBlobError: If one of its blobs is gone.
        """
        live = self.stages.live()
        return None if live is None else self.find(live)

    def canary(self) -> PublishedModel | None:
        """The model that a few devices are to try; None where there is none.

        Raises:
            UnknownBlobError: If one of its blobs is gone.
        """
        canary = self.stages.canary()
        return None if canary is None else self.find(canary)

    def versions(self) -> list[int]:
        """Every model's version, the newest first."""
        return [version for (version,) in self._database.rows(_VERSIONS)]

    def history(self, most: int) -> list[tuple[PublishedModel, float | None]]:
        """The models that were live, the live one first, and when each was superseded, unix seconds; None for it.

        Args:
            most: At most so many.

        Raises:
            UnknownBlobError: If a blob of one of them is gone.
        """
        ended: dict[int, float | None] = {}
        for version, ended_s in self.stages.live_times(_TIMES * most):
            ended.setdefault(version, ended_s)  # one that was live twice counts by its last time
        found = {model.version: model for model in self._models(list(ended)[:most])}
        return [(found[version], ended_s) for version, ended_s in list(ended.items())[:most]]

    def superseded(self, within_s: float) -> list[BlobRef]:
        """Files of models that were live at some time in the last ``within_s`` seconds, and are no more."""
        since_s = self._clock() - within_s
        ended = [model for model, ended_s in self.history(_MOST_ENDED) if ended_s is not None and ended_s > since_s]
        kept = {ref for model in (self.latest(), self.canary()) if model is not None for ref in _files(model)}
        return sorted({ref for model in ended for ref in _files(model)} - kept, key=lambda ref: ref.sha256)

    def row_file(self, model: PublishedModel) -> RowFile | None:
        """The rows that a model's file does not hold; None where it holds everything.

        Raises:
            StorageError: If they are gone or damaged.
        """
        if model.rows is None:
            return None
        return RowFile(self._rows / f"{model.rows.version}.npy", model.rows, model.recommender.sha256)

    def close(self) -> None:
        """Close the databases."""
        self.blobs.close()
        self._database.close()

    def _models(self, versions: list[int]) -> list[PublishedModel]:
        return [self._model(row) for row in self._database.rows(_FIND, versions=versions)]

    def _model(self, row: tuple[Any, ...]) -> PublishedModel:
        version, published_s, features, recommender, classifier, lineage, rows = row
        refs = (self.blobs.ref(recommender), self.blobs.ref(classifier))
        table = None if rows is None else TableRows.from_dict(rows)
        return PublishedModel(version, published_s, FeatureSchema.from_dict(features), *refs, lineage, table)


def _files(model: PublishedModel) -> tuple[BlobRef, BlobRef]:
    return model.recommender, model.classifier
