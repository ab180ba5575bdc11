"""What is not sent twice: of equal samples, and of those that hardly differ, the most wanted one stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.vector_index import Rows


def once(rows: Rows, keys: NDArray[np.int64], taken: NDArray[np.int64]) -> Rows:
    """Of ``rows``, in order, the first of each key, but none whose key is in ``taken`` (ascending)."""
    if len(taken):
        at = np.minimum(np.searchsorted(taken, keys), len(taken) - 1)
        rows, keys = rows[taken[at] != keys], keys[taken[at] != keys]
    found: Rows = rows[first_of_each(keys) == np.arange(len(keys))]
    return found


def first_of_each(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of keys [n] the place, [n], where the same key stands first."""
    order = np.argsort(keys)
    in_order = keys[order]
    begins = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))
    if len(begins) >= len(keys):
        return np.arange(len(keys))
    first = np.empty_like(order)
    first[order] = np.repeat(np.minimum.reduceat(order, begins), np.diff(np.append(begins, len(keys))))
    return first


def near_duplicates(vectors: NDArray[np.float32], what: NDArray[np.int64], least: float) -> NDArray[np.bool_]:
    """Which samples are of what an earlier one is of and hardly differ from it.

    Args:
        vectors: float32 [n, d], the most wanted first.
        what: int64 [n], equal for samples of equal item and label.
        least: Vectors of this cosine or more hardly differ.

    Returns:
        bool [n].
    """
    # Alike vectors have alike projections, whatever they are projected on, so they are neighbours in this order.
    order = np.lexsort((np.arange(len(what)), vectors.sum(axis=1), what))
    what, vectors = what[order], vectors[order]
    squares = np.einsum("ij,ij->i", vectors, vectors)
    alike = np.einsum("ij,ij->i", vectors[1:], vectors[:-1]) >= least * np.sqrt(squares[1:] * squares[:-1])
    same = alike & (what[1:] == what[:-1])
    # Of each run of such neighbours the first in rank stays.
    run = np.cumsum(np.append(True, ~same)[: len(what)])
    first = np.full(len(what) + 1, len(what))
    np.minimum.at(first, run, order)
    twin = np.empty(len(what), np.bool_)
    twin[order] = first[run] != order
    return twin
