"""The zoo's DIN in PyTorch: the same shapes and formulas, over the weights of the Keras model by their Keras paths."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from benchmarks.training.job import Array

Tensor = Any  # as long as PyTorch is optional, its types are not there for everybody
Weights = dict[str, Tensor]

_EMBEDDINGS = "/embeddings"


def parameters(weights: dict[str, Array], trainable: str) -> Weights:
    """Leaf tensors by Keras path; kernels lie as `torch.nn.functional.linear` wants them, [out, in].

    Args:
        weights: By Keras path.
        trainable: ``all``, or ``head`` for frozen embedding tables.
    """
    tensors = {}
    for path, value in weights.items():
        array = value.T.copy() if path.endswith("/kernel") else value.copy()
        trains = trainable == "all" or not path.endswith(_EMBEDDINGS)
        tensors[path] = torch.from_numpy(array).requires_grad_(trains)
    return tensors


def din_logit(w: Weights, batch: dict[str, Tensor]) -> Tensor:
    """Logits [n] of a batch."""
    genres = functional.embedding(batch["genres"], w["genre_embedding/embeddings"])
    target = _items(w, batch["item"]) + masked_mean(genres, _presence(batch["genres"]))
    histories = {name: (_items(w, batch[name]), _presence(batch[name])) for name in ("liked", "disliked")}
    attended = [_attend(w, name, target, *histories[name]) for name in histories]
    means = [masked_mean(*histories[name]) for name in histories]

    crossed = [target * vector for vector in (*attended, *means)]
    hidden = torch.cat([target, *attended, *crossed], dim=-1)
    for name in ("hidden_1", "hidden_2"):
        hidden = torch.relu(dense(w, name, hidden))
    bias = functional.embedding(batch["item"], w["item_bias/embeddings"])
    matches = torch.cat([(target * mean).sum(-1, keepdim=True) for mean in means], dim=-1)
    return (dense(w, "score", hidden) + bias + dense(w, "match", matches)).reshape(-1)


def _items(w: Weights, ids: Tensor) -> Tensor:
    return functional.embedding(ids, w["item_embedding/embeddings"])


def dense(w: Weights, name: str, x: Tensor) -> Tensor:
    """A layer of that name, without its activation."""
    return functional.linear(x, w[f"{name}/kernel"], w.get(f"{name}/bias"))


def _presence(ids: Tensor) -> Tensor:
    return (ids != 0).float()


def masked_mean(vectors: Tensor, weight: Tensor) -> Tensor:
    """Mean of [n, t, d] by weights [n, t]; zeros where all of them are zero."""
    return (vectors * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True).clamp(min=1e-6)


def _attend(w: Weights, name: str, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """As a projection of the keys and one of the products, which is faster here than a matrix for each query."""
    query = query.unsqueeze(1)
    of_products = functional.linear(keys * query, w[f"{name}_attention_key/kernel"])
    projected = keys @ w[f"{name}_attention_key/bias"] + of_products
    hidden = torch.relu(projected + dense(w, f"{name}_attention_query", query))
    score = dense(w, f"{name}_attention_score", hidden).squeeze(-1)
    weight = torch.softmax(score + (mask - 1.0) * 1e9, dim=-1) * mask
    return (keys * weight.unsqueeze(-1)).sum(1)


def attend_by_dot(query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``keys`` [n, t, d] weighed by the softmax of their dot products with ``query`` [n, d]."""
    weight = torch.softmax((keys * query.unsqueeze(1)).sum(-1) + (mask - 1.0) * 1e9, dim=-1) * mask
    return (keys * weight.unsqueeze(-1)).sum(1)
