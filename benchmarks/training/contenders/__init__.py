"""Who is compared. Each module here opens a job with one library and gives its passes; none is imported before that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.training.job import Job

RUNTIMES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}


@dataclass(frozen=True)
class Passes:
    """A job opened by one contender.

    Attributes:
        first: Takes the job's steps from the job's weights and gives the loss of each batch before its step.
        again: Takes as many steps from wherever the weights are; this is timed.
    """

    first: Callable[[], Sequence[float]]
    again: Callable[[], object]


@dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes:
        title: What it is, for a person.
        module: Its module in this package, with a function ``open_job(job, *arguments) -> Passes``.
        needs: The module that must be installed.
        distribution: What to install for it.
        arguments: Of ``open_job``.
    """

    title: str
    module: str
    needs: str
    distribution: str
    arguments: tuple[str, ...] = ()

    def is_installed(self) -> bool:
        """Whether its library is there."""
        return find_spec(self.needs) is not None

    def open(self, job: Job) -> Passes:
        """Load what it needs and the job."""
        module: Any = import_module(f"{__name__}.{self.module}")
        passes: Passes = module.open_job(job, *self.arguments)
        return passes


CONTENDERS = {
    **{f"trainer-{m}": Contender(f"Trainer, {d}", "trainer", m, d, (m,)) for m, d in RUNTIMES.items()},
    **{f"bare-{m}": Contender(f"bare calls, {d}", "bare", m, d, (m,)) for m, d in RUNTIMES.items()},
    "torch": Contender("PyTorch", "torch_loop", "torch", "torch"),
    "keras": Contender("Keras fit", "keras_fit", "keras", "keras"),
}
