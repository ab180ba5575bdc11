"""What each further sample adds to a compact batch, in bytes: estimated, so that a matcher can weigh it.

A window costs the ids that no chosen window of its sequence has brought yet, each at the entropy of the ids at hand;
all else of a sample costs about the same whatever else is sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.samples import Array, SampleBatch
from protocol.schema import FeatureKind
from protocol.windows import EMPTY, Ids, Index, find_shared

# Measured on MovieLens batches of 300 to 4,000 samples: what is sent of a sample beside ids, and how far above the
# entropy of its ids a batch ends, mostly for the list of the ids that occur.
_WINDOW_BYTES, _SET_BYTES, _TIME_BYTES, _FRAME_BYTES = 0.7, 1.0, 2.5, 300.0
_OVER_ENTROPY = 1.1


@dataclass(frozen=True)
class _Track:
    """One sequence feature of the candidates: where each one's window lies.

    Attributes:
        end: [n], a key of the window's end, one apart for each id of a sequence and far apart between sequences.
        ids: [n], ids in the window.
        id_bytes: What one of them costs.
    """

    end: Index
    ids: Index
    id_bytes: float

    def fresh(self, chosen: NDArray[np.bool_]) -> Index:
        """[n], ids that each candidate adds to the chosen ones."""
        ends, back = np.unique(self.end[chosen], return_index=True)
        if not len(ends):
            return self.ids
        begins = ends - self.ids[chosen][back]
        place = np.searchsorted(ends, self.end)
        before = ends[np.maximum(place - 1, 0)]
        lower = np.where((place > 0) & (before > self.end - self.ids), before, self.end - self.ids)
        upper = np.minimum(self.end, begins[np.minimum(place, len(ends) - 1)])
        upper = np.where(place < len(ends), upper, self.end)
        fresh: Index = np.maximum(upper - lower, 0)
        return fresh


class SampleCosts:
    """Costs of candidates, given which of them are chosen already."""

    def __init__(self, candidates: SampleBatch) -> None:
        """Look at the candidates; their order does not matter."""
        by_time = np.argsort(candidates.time_s, kind="stable").astype(np.int64)
        self._tracks: list[_Track] = []
        self._fixed_bytes = _TIME_BYTES
        for feature in candidates.schema.features:
            values = candidates.features[feature.name]
            if feature.kind is FeatureKind.SEQUENCE:
                self._tracks.append(_track(values, by_time))
                self._fixed_bytes += _WINDOW_BYTES
            elif feature.kind is FeatureKind.DENSE:
                self._fixed_bytes += values.itemsize * feature.length
            else:
                single = feature.kind is FeatureKind.CATEGORICAL
                self._fixed_bytes += _entropy_bytes(values) if single else _SET_BYTES

    def marginal_bytes(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What each candidate would add, float64 [n]; ``chosen`` is bool [n]."""
        added = [track.fresh(chosen) * track.id_bytes for track in self._tracks]
        return np.sum(added, axis=0) + self._fixed_bytes if added else np.full(len(chosen), self._fixed_bytes)

    def total_bytes(self, chosen: NDArray[np.bool_]) -> float:
        """What a batch of the chosen takes."""
        ids = sum(_covered(track.end[chosen], track.ids[chosen]) * track.id_bytes for track in self._tracks)
        return _FRAME_BYTES + float(ids) + self._fixed_bytes * int(chosen.sum())


def _track(rows: Array, by_time: Index) -> _Track:
    shared = find_shared(rows, by_time)
    ids = (rows != 0).cumsum(axis=1).astype(bool).sum(axis=1).astype(np.int64)
    apart = int(shared.end.max(initial=0)) + rows.shape[1] + 1
    end = np.where(shared.sequence == EMPTY, -1, shared.sequence * apart + shared.end)
    return _Track(end, ids, _entropy_bytes(rows[rows != 0]))


def _entropy_bytes(ids: Ids) -> float:
    _, counts = np.unique(ids, return_counts=True)
    share = counts / max(counts.sum(), 1)
    return float(-(share * np.log2(share)).sum() / 8 * _OVER_ENTROPY)


def _covered(end: Index, ids: Index) -> int:
    """Ids under all windows together, those under several counted once."""
    order = np.argsort(end)
    end, begin = end[order], (end - ids)[order]
    reached = np.maximum.accumulate(np.append(np.iinfo(np.int64).min, end[:-1])) if len(end) else end
    return int(np.maximum(end - np.maximum(begin, reached), 0).sum())
