"""Makes a device's state with a served DIN: python -m benchmarks.serving.prepare FOLDER."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.training.job import Job
from benchmarks.training.prepare import movielens_like, prepare
from edge.feedback.events import Event, EventKind
from edge.feedback.labelling import EventRules
from edge.learning.runtime import file_sha256
from edge.storage.round_store import DONE
from edge.storage.store import Store
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe

HISTORY = 20


def make_state(folder: Path) -> None:
    """A model in ``folder/model.tflite``, and a store in ``folder/state`` that serves it to a user with a history."""
    job = prepare(Job(folder, "head"))
    schema, sha256 = movielens_like(job.items), file_sha256(job.tflite)
    ref = BlobRef(sha256, job.tflite.stat().st_size)
    with Store(folder / "state") as store:
        shutil.copy(job.tflite, store.blobs.path(sha256))
        stored = store.rounds.begin(Task(1, schema.to_dict(), Recipe().to_dict(), ref, ref), "sync")
        store.rounds.serve(sha256, stored.round_id, None)
        store.rounds.close(stored.round_id, DONE)
        events = [
            Event(kind, item, 1000 + item)
            for item in range(1, HISTORY + 1)
            for kind in (EventKind.CLICK, EventKind.SKIP)
        ]
        store.events.add([Event(e.kind, e.item + 100 * (e.kind is EventKind.SKIP), e.time_s) for e in events], schema,
                         EventRules(keep_days=36500))  # fmt: skip


if __name__ == "__main__":
    make_state(Path(sys.argv[1]))
