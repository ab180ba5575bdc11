"""Which of the ranked samples to send where not all fit: near ones first, and of those about as near, cheap ones.

A sample that shares its histories with others on their way costs a few bytes, one of a new contributor tens. So the
rank counts, and against it what a sample adds to the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.vector_index import Rows
from protocol.batch_codec import MAX_SAMPLES, encode_batch, encode_plain
from protocol.sample_cost import SampleCosts
from protocol.samples import SampleBatch

# How many ranks, as a share of all candidates, a sample of no cost at all comes before one of the mean cost.
PREFERENCE = 0.25
_ROUNDS = 16
# Encoded size grows a little slower than the number of samples, so a cut in proportion lands just under the bound.
_CUT_MARGIN = 0.98


def affordable(
    candidates: SampleBatch, encoded_bytes: int, max_bytes: int, *, preference: float = PREFERENCE
) -> NDArray[np.int64]:
    """Choose what fits, by the estimate of `protocol.sample_cost`.

    Args:
        candidates: Samples, the most wanted first.
        encoded_bytes: What all of them take; the estimate is scaled to it.
        max_bytes: What those chosen may take.
        preference: How much cost counts against rank; 0 takes the first that fit.

    Returns:
        Their places, the most wanted first when cost is counted in: every beginning is a good choice too.
    """
    costs, total = SampleCosts(candidates), len(candidates)
    chosen, order = np.zeros(total, np.bool_), np.zeros(0, np.int64)
    rank = np.arange(total) / max(total, 1)
    mean_bytes = float(costs.marginal_bytes(chosen).mean()) if total else 1.0
    fits_bytes = max_bytes * costs.total_bytes(~chosen) / max(encoded_bytes, 1)
    # Some in any case: of few samples the estimate is far too high, and whoever encodes them sees what fits.
    while len(order) < total and (len(order) == 0 or costs.total_bytes(chosen) < fits_bytes):
        wanted = rank + preference * costs.marginal_bytes(chosen) / mean_bytes
        wanted[chosen] = np.inf
        more = np.argsort(wanted, kind="stable")[: min(-(-total // _ROUNDS), total - len(order))]
        chosen[more] = True
        order = np.concatenate([order, more])
    return order


def encode_within(
    take: Callable[[Rows], SampleBatch], ranked: Rows, max_bytes: int, *, zstd: bool = True, quick: bool = False
) -> tuple[Rows, bytes]:
    """Encode the rows, all if they fit; else as many as do, near and cheap ones before far and dear ones.

    Args:
        take: Gives the samples of rows.
        ranked: Rows, the most wanted first.
        max_bytes: Bound on the encoded bytes.
        zstd: Whether the reader has zstd.
        quick: Where all fit as plain columns, leave it at that: a fifth to a half more bytes for a tenth of the time.

    Returns:
        The rows encoded, ascending, and the bytes, in which the samples are in whatever order is smallest. No rows and
        no bytes if not even one sample fits.
    """
    ranked = ranked[:MAX_SAMPLES]
    count, chosen = len(ranked), None
    if quick and count:
        rows = np.sort(ranked)
        payload = encode_plain(take(rows), zstd=zstd, quick=True)
        if len(payload) <= max_bytes:
            return rows, payload
    while count > 0:
        rows = np.sort(ranked[:count])
        payload = encode_batch(take(rows), zstd=zstd, keep_order=False)
        if len(payload) <= max_bytes:
            return rows, payload
        if chosen is None:
            chosen = affordable(take(ranked), len(payload), max_bytes)
            ranked, count = ranked[chosen], len(chosen)
        else:
            count = min(count - 1, int(count * max_bytes / len(payload) * _CUT_MARGIN))
    return ranked[:0], b""
