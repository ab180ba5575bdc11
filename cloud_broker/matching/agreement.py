"""Matching by agreement: samples of the contributors whose opinions of shared items are most like the device's own.

Both have to allow it: the device by sending its opinions, contributors with their contributions. Where nobody agrees,
or too few, and for whatever is missing, samples are matched by profile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.matcher import Matcher, PoolView, quotas
from cloud_broker.matching.options import PLAIN, MatchOptions
from cloud_broker.matching.profile_matching import ProfileMatcher
from cloud_broker.matching.vector_index import Rows, VectorIndex
from cloud_broker.pool.columns import FORGOTTEN
from protocol.messages import Query
from protocol.opinions import unpack_opinions

NEIGHBOURS = 50
_SHRINK = 10.0  # usual items by which an agreement has half its weight
_LEAST_SPREAD = 1e-3  # of opinions where all are alike
_RATE_PRIOR = 5.0  # opinions of an item by which its own share of likes has half its weight


class AgreementMatcher(Matcher):
    """The nearest samples of those who agree most, each by a quota; then what a profile finds."""

    def __init__(self, view: PoolView, options: MatchOptions = PLAIN, engine: VectorIndex | None = None) -> None:
        """Choose from ``view``, which has opinions; ``engine`` finds what is near a profile."""
        super().__init__(view, options)
        self._by_profile = ProfileMatcher(view, options, engine)

    def rank(self, query: Query, asker: int | None) -> Rows:
        """See `Matcher.rank`; those who agree first."""
        by_profile = self._by_profile.rank(query, asker)
        if query.opinions is None:
            return by_profile
        candidates, places, shares = self._candidates(query, asker)
        if not len(candidates):
            return by_profile
        agreed = self._by_quota(query, asker, candidates, places, shares)
        both = self._admissible(np.concatenate([agreed, by_profile]), asker, _NONE)
        return self._balanced(both, query.max_samples)[0]

    def _candidates(self, query: Query, asker: int | None) -> tuple[Rows, NDArray[np.int64], NDArray[np.float64]]:
        """Rows of those who agree, the nearest first for each; whose each is; and everybody's share."""
        assert self.view.opinions is not None
        who, how_much = self._agreeing(query, asker)
        # A sample may be anybody's of so many, as k-anonymity asks for items.
        if len(who) < self._options.k_anonymity:
            return _NONE, _NONE, np.zeros(0)
        rows, places = self.view.opinions.of_contributors(who)
        near = (self.view.vectors[rows] @ query.profile().T).max(axis=1, initial=-np.inf)
        order = np.argsort(-near, kind="stable")
        return rows[order], places[order], how_much / how_much.sum()

    def _agreeing(self, query: Query, asker: int | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Contributors who agree with the device's opinions, those who agree most first, and how much."""
        view, k = self.view, self._options.k_anonymity
        assert view.opinions is not None
        assert view.labels is not None
        items, liked = unpack_opinions(query.opinions or b"")
        if k > 1:
            assert view.sharers is not None
            shared = items < len(view.sharers)
            shared[shared] = view.sharers[items[shared]] >= k
            items, liked = items[shared], liked[shared]
        rows, places = view.opinions.of_items(items)
        owners = view.contributors[rows]
        may = owners != FORGOTTEN
        if asker is not None:
            may &= owners != asker
        if view.agreeing is not None:
            known = owners < len(view.agreeing)
            may &= known & view.agreeing[np.where(known, owners, 0)]
        scores = agreement(owners[may], liked[places[may]], view.labels[rows[may]] > 0, places[may])
        who = np.argsort(-scores, kind="stable")[: max(NEIGHBOURS, k)]
        who = who[scores[who] > 0]
        return who.astype(np.int64), scores[who]

    def _by_quota(
        self,
        query: Query,
        asker: int | None,
        candidates: Rows,
        places: NDArray[np.int64],
        shares: NDArray[np.float64],
    ) -> Rows:
        """The admissible candidates within everybody's quota, interleaved."""
        allowed = np.array(quotas(tuple(shares.tolist()), query.max_samples))
        allowed = np.minimum(allowed, -(-query.max_samples // max(self._options.k_anonymity, 1)))
        by_row = np.argsort(candidates)
        rows = self._admissible(candidates, asker, _NONE)
        places = places[by_row[np.searchsorted(candidates, rows, sorter=by_row)]]
        number = _number_within(places)
        within = number < allowed[places]
        priority = (number + 0.5) / np.maximum(allowed[places], 1)
        return rows[within][np.argsort(priority[within], kind="stable")]


def agreement(
    owners: NDArray[np.int32], mine: NDArray[np.bool_], theirs: NDArray[np.bool_], places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How much each contributor agrees with a device: correlation over shared items, less where these are few.

    Opinions count by how far they are from the item's share of likes, so that liking what everybody likes says little.
    Shrunk as if everybody shared `_SHRINK` more usual items with everybody, and agreed on half of them.

    Args:
        owners: int32 [n], whose each opinion is.
        mine: bool [n], whether the device likes what it is about.
        theirs: bool [n], whether its owner does.
        places: int64 [n], what it is about.

    Returns:
        float64 [largest owner + 1], between -1 and 1, 0 where nothing is shared.
    """
    rate = float(theirs.mean()) if len(theirs) else 0.0
    likes, count = np.bincount(places, theirs), np.bincount(places)
    expected = ((likes + _RATE_PRIOR * rate) / (count + _RATE_PRIOR))[places]
    x, y = mine - expected, theirs - expected
    xy, xx, yy = (np.bincount(owners, values) for values in (x * y, x * x, y * y))
    found: NDArray[np.float64] = xy / (np.sqrt(xx * yy) + _SHRINK * max(rate * (1 - rate), _LEAST_SPREAD))
    return found


def _number_within(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each element, how many equal ones stand before it."""
    order = np.argsort(places, kind="stable")
    ascending = places[order]
    number = np.empty(len(places), np.int64)
    number[order] = np.arange(len(places)) - np.searchsorted(ascending, ascending)
    return number


_NONE = np.zeros(0, np.int64)
