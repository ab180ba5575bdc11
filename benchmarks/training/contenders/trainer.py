"""Our Trainer, as the device service uses it: it draws every batch itself."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.training.contenders import Passes
from benchmarks.training.job import Job
from benchmarks.training.sampling import sampler
from edge.runtime import open_model
from edge.trainer import Trainer


def open_job(job: Job, runtime: str) -> Passes:
    """With ``runtime`` on one thread."""
    trainer = Trainer(open_model(job.tflite, runtime=runtime))
    source = sampler(job.columns(), job.sampling_seed)

    def steps() -> Sequence[float]:
        losses: list[float] = trainer.fit(source, job.steps, job.learning_rate).tolist()
        return losses

    return Passes(steps, steps)
