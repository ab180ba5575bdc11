"""The models that were published, newest first in mind: what devices are given and how it came to be.

A published model is two blobs, the recommender and the sample classifier, with its lineage: the data, the training's
metrics and the conversion's parity reports.
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
from protocol.messages import BlobRef
from protocol.schema import FeatureSchema

_TABLES = """
CREATE TABLE IF NOT EXISTS model (
    version INTEGER PRIMARY KEY AUTOINCREMENT, published_s REAL NOT NULL, features TEXT NOT NULL,
    recommender TEXT NOT NULL, classifier TEXT NOT NULL, lineage TEXT NOT NULL
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
    """

    version: int
    published_s: float
    schema: FeatureSchema
    recommender: BlobRef
    classifier: BlobRef
    lineage: dict[str, Any]


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

    def publish(
        self, schema: FeatureSchema, recommender: bytes, classifier: bytes, lineage: dict[str, Any]
    ) -> PublishedModel:
        """Store a recommender and its classifier as the newest model.

        Args:
            schema: The features both were made for.
            recommender: The file's bytes.
            classifier: The file's bytes.
            lineage: Plain values, JSON at heart.

        Raises:
            StorageError: If the disk fails.
        """
        blobs = [self.blobs.put(recommender), self.blobs.put(classifier)]
        texts = [json.dumps(schema.to_dict()), *(blob.sha256 for blob in blobs), json.dumps(lineage)]
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO model (published_s, features, recommender, classifier, lineage) VALUES (?, ?, ?, ?, ?)",
                (self._clock(), *texts),
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

    def close(self) -> None:
        """Close the databases."""
        self.blobs.close()
        self._database.close()

    def _model(self, row: tuple[Any, ...]) -> PublishedModel:
        version, published_s, features, recommender, classifier, lineage = row
        schema = FeatureSchema.from_dict(json.loads(features))
        refs = (self.blobs.ref(recommender), self.blobs.ref(classifier))
        return PublishedModel(version, published_s, schema, *refs, json.loads(lineage))
