"""The usual PyTorch loop over tensors made beforehand, on one thread: at this size a second one slows it down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.training.contenders import Passes
from benchmarks.training.contenders.torch_din import parameters
from benchmarks.training.contenders.torch_zoo import LOGITS
from benchmarks.training.job import Job


def open_job(job: Job) -> Passes:
    """In eager mode."""
    torch.set_num_threads(1)
    weights = parameters(job.weights(), job.trainable)
    optimizer = torch.optim.SGD([w for w in weights.values() if w.requires_grad], lr=job.learning_rate)
    logit = LOGITS[job.model]
    batches = [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in job.batches()]

    def step(batch: dict[str, Any]) -> float:
        optimizer.zero_grad()
        loss: Any = binary_cross_entropy_with_logits(logit(weights, batch), batch["label"])
        loss.backward()
        optimizer.step()
        return float(loss.item())

    def steps() -> Sequence[float]:
        return [step(batch) for batch in batches]

    return Passes(steps, steps)
