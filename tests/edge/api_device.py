"""A device for the tests of its local API: a real store, a real server, real models."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from edge.feedback.labelling import EventRules
from edge.forgetting import Forgotten
from edge.learning.recommender import Personal
from edge.learning.runtime import open_model
from edge.local_api.api import Api, description
from edge.local_api.ranker import Ranker
from edge.local_api.server import Server
from edge.local_api.turnstile import Turnstile
from edge.storage.store import Store
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from protocol.rows import RowBlock
from tests.edge.conftest import ModelFiles
from tests.edge.samples import SCHEMA

RULES = EventRules(keep_days=36500)


class ApiDevice:
    """A store, and the API over it on a Unix socket and on loopback."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "api.sock"
        self.store = Store(folder / "state")
        self.ranker = Ranker(self.store, RULES, None, 1)
        self.told: list[Forgotten] = []
        self.turnstile = Turnstile()
        self.api = Api(self.store, RULES, self.ranker, self.turnstile, self._forgotten)
        self.server = Server(self.api.answer, self.socket, 0)

    def _forgotten(self, what: Forgotten) -> None:
        self.told.append(what)
        self.ranker.reload()

    def serve(self, files: ModelFiles, shift: float | None = None) -> str:
        """Serve a model, or a personal one whose weights are all shifted; returns its version."""
        path = self.store.blobs.path(files.recommender_sha256)
        if not path.exists():  # it is mapped into memory
            shutil.copy(files.recommender, path)
        size = files.recommender.stat().st_size
        rows = None if files.rows is None else files.rows.description
        blob = BlobRef(files.recommender_sha256, size)
        stored = self.store.rounds.begin(Task(1, SCHEMA.to_dict(), Recipe().to_dict(), blob, blob, rows), "sync")
        personal = None
        if shift is not None:
            weights = open_model(files.recommender).get_weights()
            block = None
            if files.rows is not None:
                names = {column.weight for column in files.rows.description.columns}
                weights = {name: value for name, value in weights.items() if name not in names}
                ids = np.arange(1, 5, dtype=np.int32)
                block = RowBlock(files.rows.description.version, ids, files.rows.values[ids] + np.float32(shift))
            personal = Personal({n: v + np.float32(shift) for n, v in weights.items()}, block)
        self.store.rounds.serve(files.recommender_sha256, stored.round_id, personal)
        self.store.rounds.close(stored.round_id, "done")
        version = self.ranker.reload()
        assert version is not None
        return version


@pytest.fixture
def device(tmp_path: Path) -> Iterator[ApiDevice]:
    """A device without a model."""
    one = ApiDevice(tmp_path)
    with closing(one.store), one.server:
        yield one


def valid(value: Any, name: str) -> Any:
    """The value, which is as the description says."""
    jsonschema.validate(value, {**description(), "$ref": f"#/components/schemas/{name}"})
    return value
