"""A device that serves, and trains on command: python -m benchmarks.serving.device FOLDER.

Reads ``train``, ``rest`` and ``memory`` from standard input and answers each with a line.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np

from edge.config import ApiConfig, EdgeConfig
from edge.learning.runtime import open_model
from edge.learning.trainer import Trainer
from edge.learning.tuning import tune
from edge.local_api.serving import LocalApi
from edge.local_api.turnstile import Turnstile
from edge.memory import return_freed_memory
from edge.storage.store import Store
from protocol.recipe import Recipe
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema


def main(folder: Path) -> None:
    """Serve on ``folder/api.sock`` until standard input ends."""
    return_freed_memory()
    nothing = folder / "nothing"
    config = EdgeConfig(
        device="d", fleet="f", host="localhost", port=1, ca_file=nothing, cert_file=nothing, key_file=nothing,
        state_dir=folder / "state", api=ApiConfig(socket=folder / "api.sock"),
    )  # fmt: skip
    turnstile, training, ended = Turnstile(), threading.Event(), threading.Event()
    with Store(config.state_dir) as store:
        task = store.rounds.served_task()
        assert task is not None
        trainer, local = _trainer(folder, FeatureSchema.from_dict(task.features), turnstile)
        api = LocalApi(config, store, turnstile, lambda _event: None)
        with api.running():  # this thread is of low priority from here on, as the service's is
            threading.Thread(target=_obey, args=(training, ended), daemon=True).start()
            while not ended.is_set():
                if training.wait(0.05):
                    nobody = local.take(slice(0))
                    tune(trainer, local, nobody, nobody.label, Recipe(steps=64))


def _trainer(folder: Path, schema: FeatureSchema, turnstile: Turnstile) -> tuple[Trainer, SampleBatch]:
    model = open_model(folder / "model.tflite")
    model.before_step = turnstile.let_pass
    with np.load(folder / "samples.npz") as file:
        columns = {name: file[name] for name in (*model.feature_names, "label")}
    label = columns.pop("label")
    return Trainer(model), SampleBatch(schema, columns, label, np.arange(len(label), dtype=np.int64))


def _obey(training: threading.Event, ended: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == "train":
            training.set()
        elif line.strip() == "rest":
            training.clear()
        peak = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM"))
        sys.stdout.write(f"{int(peak.split()[1]) * 1024}\n")
        sys.stdout.flush()
    ended.set()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
