"""Our Trainer, as the device service uses it: it draws every batch itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.training.contenders import Passes
from benchmarks.training.job import Job
from benchmarks.training.sampling import sampler
from edge.learning.runtime import open_model
from edge.learning.trainer import Trainer


def open_job(job: Job, runtime: str) -> Passes:
    """With ``runtime`` on one thread."""
    model = open_model(job.tflite, runtime=runtime)
    if model.has_slots:
        with np.load(job.rows) as rows:
            model.set_rows(dict(rows))
    trainer = Trainer(model)
    source = sampler(job.columns(), job.sampling_seed)

    def steps() -> Sequence[float]:
        losses: list[float] = trainer.fit(source, job.steps, job.learning_rate).tolist()
        return losses

    return Passes(steps, steps)
