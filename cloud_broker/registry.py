"""The models that were published, newest first in mind: what devices are given and how it came to be.

A published model is two blobs, the recommender and the sample classifier, with its lineage: the data, the training's
metrics and the conversion's parity reports. Where the recommender's file holds no rows of its largest table, these lie
in a file beside it, ``{directory}/rows/{version}.npy``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_broker.blobs import BlobStore
from cloud_broker.database import Database
from cloud_broker.rows import RowFile, write_rows
from protocol.messages import BlobRef
from protocol.rows import RowTable, TableRows
from protocol.schema import FeatureSchema

_TABLES = """
CREATE TABLE IF NOT EXISTS model (
    version INTEGER PRIMARY KEY AUTOINCREMENT, published_s REAL NOT NULL, features TEXT NOT NULL,
    recommender TEXT NOT NULL, classifier TEXT NOT NULL, lineage TEXT NOT NULL, rows TEXT
);
"""


@dataclass(frozen=True)
class PublishedModel:
    """A recommender with the classifier that goes with it.

    Attributes:
        version: Rises with every publication.
        published_s: Unix time.
        schema: The features both were made for.
        recommender: h0's file.
        classifier: The sample classifier's file.
        lineage: How it came to be: ``data``, ``metrics`` and ``parity`` as plain values.
        rows: The table of which the recommender's file holds no rows; None where it holds everything.
    """

    version: int
    published_s: float
    schema: FeatureSchema
    recommender: BlobRef
    classifier: BlobRef
    lineage: dict[str, Any]
    rows: TableRows | None = None


Prepare = Callable[[Path, str, RowFile | None], None]


class Registry:
    """Published models and the blobs they are made of; safe to use from several threads.

    Attributes:
        blobs: Every blob that a device may pull.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the registry under ``directory``, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self.blobs = BlobStore(directory, clock=clock)
        self._database = Database(directory / "registry.sqlite", _TABLES)
        self._clock = clock
        self._rows = directory / "rows"

    def publish(
        self,
        schema: FeatureSchema,
        recommender: bytes,
        classifier: bytes,
        lineage: dict[str, Any],
        rows: RowTable | None = None,
        *,
        prepare: Prepare | None = None,
    ) -> PublishedModel:
        """Store a recommender and its classifier as the newest model.

        Args:
            schema: The features both were made for.
            recommender: The file's bytes.
            classifier: The file's bytes.
            lineage: Plain values, JSON at heart.
            rows: What the recommender's file does not hold.
            prepare: Called with the recommender's file, its digest and its rows when they are stored and the model is
                not the newest yet.

        Raises:
            StorageError: If the disk fails.
        """
        blobs = [self.blobs.put(recommender), self.blobs.put(classifier)]
        texts = [json.dumps(schema.to_dict()), *(blob.sha256 for blob in blobs), json.dumps(lineage)]
        table = None if rows is None else json.dumps(rows.description.to_dict())
        if rows is not None:
            write_rows(self._rows / f"{rows.description.version}.npy", rows.values)
        if prepare is not None:
            at = None if rows is None else self._rows / f"{rows.description.version}.npy"
            file = None if at is None or rows is None else RowFile(at, rows.description, blobs[0].sha256)
            prepare(self.blobs.path(blobs[0].sha256), blobs[0].sha256, file)
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO model (published_s, features, recommender, classifier, lineage, rows)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (self._clock(), *texts, table),
            )
        newest = self.latest()
        assert newest is not None
        return newest

    def latest(self) -> PublishedModel | None:
        """The newest model; None before the first.

        Raises:
            UnknownBlobError: If one of its blobs is gone.
        """
        rows = self._database.rows("SELECT * FROM model ORDER BY version DESC LIMIT 1")
        return self._model(rows[0]) if rows else None

    def history(self, most: int) -> list[tuple[PublishedModel, float | None]]:
        """The newest models, the newest first, and when each was superseded, unix seconds; None for the newest.

        Args:
            most: At most so many.

        Raises:
            UnknownBlobError: If a blob of one of them is gone.
        """
        rows = self._database.rows(
            "SELECT *, lead(published_s) OVER (ORDER BY version) FROM model ORDER BY version DESC LIMIT ?", most
        )
        return [(self._model(row[:-1]), row[-1]) for row in rows]

    def superseded(self, within_s: float) -> list[BlobRef]:
        """Files of models that were the newest at some time in the last ``within_s`` seconds, and are no more."""
        newest = self.latest()
        if newest is None:
            return []
        kept = {newest.recommender.sha256, newest.classifier.sha256}
        # A model's time ends when the next one is published.
        rows = self._database.rows(
            "SELECT recommender, classifier FROM (SELECT *, lead(published_s) OVER (ORDER BY version) AS ended_s"
            " FROM model) WHERE ended_s > ?",
            self._clock() - within_s,
        )
        return [self.blobs.ref(sha256) for sha256 in sorted({one for row in rows for one in row} - kept)]

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

    def _model(self, row: tuple[Any, ...]) -> PublishedModel:
        version, published_s, features, recommender, classifier, lineage, rows = row
        schema = FeatureSchema.from_dict(json.loads(features))
        refs = (self.blobs.ref(recommender), self.blobs.ref(classifier))
        table = None if rows is None else TableRows.from_dict(json.loads(rows))
        return PublishedModel(version, published_s, schema, *refs, json.loads(lineage), table)
