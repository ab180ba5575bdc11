"""The least that Python can do with the file: the runtime's own signature runner over batches made beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import numpy as np

from benchmarks.training.contenders import Passes
from benchmarks.training.job import Job


def open_job(job: Job, runtime: str) -> Passes:
    """With ``runtime`` on one thread."""
    interpreter = import_module(f"{runtime}.interpreter").Interpreter(str(job.tflite), num_threads=1)
    interpreter.allocate_tensors()  # without it, tflite-runtime does not use XNNPACK
    train = interpreter.get_signature_runner("train")
    constants = {
        "weight": np.ones(job.batch_size, np.float32),
        "learning_rate": np.array(job.learning_rate, np.float32),
        "proximal": np.array(0, np.float32),
    }
    batches = [{**batch, **constants} for batch in job.batches()]

    def steps() -> Sequence[float]:
        return [float(train(**batch)["loss"]) for batch in batches]

    return Passes(steps, steps)
