"""The benchmark of matching by agreement answers the queries that it times by agreement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.agreement import pool, queries
from cloud_broker.matching.agreement import AgreementMatcher
from cloud_broker.matching.opinions import Opinions
from cloud_broker.matching.options import MatchOptions
from cloud_broker.matching.profile_matching import ProfileMatcher


def test_both_matchers_answer_with_as_many_samples_and_not_the_same() -> None:
    """As many rows each, and those of the contributor that a device resembles among the ones by agreement."""
    rng, options = np.random.default_rng(1), MatchOptions(matcher="agreement")
    view = pool(20_000, rng)
    by_profile = ProfileMatcher(view, options)
    by_agreement = AgreementMatcher(
        replace(view, opinions=Opinions(np.asarray(view.items), view.contributors)), options
    )
    for query in queries(view, 3, rng):
        one, other = (set(matcher.rank(query, None).tolist()) for matcher in (by_profile, by_agreement))
        assert len(one) == len(other) == query.max_samples
        assert len(one & other) < query.max_samples / 2
