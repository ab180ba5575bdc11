"""Every model in PyTorch, over the schema of MovieLens; each function gives the logits [n] of a batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch.nn import functional

from benchmarks.training.contenders.torch_din import Tensor, Weights, attend_by_dot, dense, din_logit, masked_mean

_TABLES = {"item": "item", "genres": "genre", "liked": "item", "disliked": "item"}


def lr_logit(w: Weights, batch: dict[str, Tensor]) -> Tensor:
    """Logistic regression."""
    return _linear(w, batch).reshape(-1)


def wide_deep_logit(w: Weights, batch: dict[str, Tensor]) -> Tensor:
    """Wide & Deep."""
    return (_linear(w, batch) + _deep(w, _fields(w, batch))).reshape(-1)


def deepfm_logit(w: Weights, batch: dict[str, Tensor]) -> Tensor:
    """DeepFM."""
    fields = _fields(w, batch)
    stacked = torch.stack(fields)
    pairs = 0.5 * (stacked.sum(0).square() - stacked.square().sum(0)).sum(-1, keepdim=True)
    return (_linear(w, batch) + pairs + _deep(w, fields)).reshape(-1)


def pnn_logit(w: Weights, batch: dict[str, Tensor]) -> Tensor:
    """Product-based network."""
    fields = _fields(w, batch)
    products = [(left * right).sum(-1, keepdim=True) for left, right in combinations(fields, 2)]
    return (_linear(w, batch) + _deep(w, [*fields, *products])).reshape(-1)


def plain_din_logit(w: Weights, batch: dict[str, Tensor]) -> Tensor:
    """A target, one history, one hidden layer."""
    table = w["item_embedding/embeddings"]
    target, liked = functional.embedding(batch["item"], table), functional.embedding(batch["liked"], table)
    interest = attend_by_dot(target, liked, (batch["liked"] != 0).float())
    hidden = torch.relu(dense(w, "hidden_1", torch.cat([target, interest, target * interest], dim=-1)))
    return dense(w, "score", hidden).reshape(-1)


LOGITS: dict[str, Callable[[Weights, dict[str, Tensor]], Tensor]] = {
    "lr": lr_logit,
    "wide_deep": wide_deep_logit,
    "deepfm": deepfm_logit,
    "pnn": pnn_logit,
    "din": din_logit,
    "plain_din": plain_din_logit,
}


def _fields(w: Weights, batch: dict[str, Tensor]) -> list[Tensor]:
    """One vector a feature [n, d], in the schema's order."""
    return [_vector(batch[name], w[f"{table}_embedding/embeddings"]) for name, table in _TABLES.items()]


def _linear(w: Weights, batch: dict[str, Tensor]) -> Tensor:
    parts = [_vector(batch[name], w[f"{name}_bias/embeddings"]) for name in _TABLES]
    return dense(w, "linear", torch.stack(parts).sum(0))


def _vector(ids: Tensor, table: Tensor) -> Tensor:
    """Rows [n, d] of ids [n], or their means over ids [n, t] that are not padding."""
    rows = functional.embedding(ids, table)
    return rows if ids.ndim == 1 else masked_mean(rows, (ids != 0).float())


def _deep(w: Weights, parts: list[Tensor]) -> Tensor:
    hidden = torch.cat(parts, dim=-1)
    for name in ("hidden_1", "hidden_2"):
        hidden = torch.relu(dense(w, name, hidden))
    return dense(w, "score", hidden)
