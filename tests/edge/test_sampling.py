"""Which rows a gradient step sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.learning.sampling import Group, MixedSampler

COLUMNS = {"label": np.zeros(10, np.float32)}


def _sampler(*groups: Group, seed: int = 0) -> MixedSampler:
    return MixedSampler(COLUMNS, groups, np.random.default_rng(seed))


@settings(deadline=None)
@given(share=st.floats(0.01, 0.99), batch=st.integers(2, 64), steps=st.integers(1, 9))
def test_every_batch_holds_each_groups_share(share: float, batch: int, steps: int) -> None:
    """A batch of B rows has round(B x share) of the first group, at least one of each group, and B in all."""
    sampler = _sampler(Group(np.arange(4), share), Group(np.arange(4, 10), 1 - share))
    rows = sampler.draw(steps, batch)
    first = (rows < 4).sum(axis=1)
    assert rows.shape == (steps, batch)
    assert (first == min(max(round(batch * share), 1), batch - 1)).all()


def test_an_unweighted_group_goes_through_all_rows_before_repeating() -> None:
    """Passes are shuffled and whole: each row is seen equally often."""
    rows = _sampler(Group(np.arange(10), 1.0)).draw(5, 10)
    assert (np.sort(rows, axis=1) == np.arange(10)).all()


def test_weights_are_probabilities() -> None:
    """A row of weight 0 is never drawn, one of weight 3 three times as often as one of weight 1."""
    weights = np.array([0.0, 1.0, 3.0], np.float32)
    rows = _sampler(Group(np.array([5, 6, 7]), 1.0, weights)).draw(1000, 32)
    counts = np.bincount(rows.ravel(), minlength=10)
    assert counts[5] == 0
    assert counts[7] / counts[6] == pytest.approx(3.0, rel=0.05)


def test_the_same_seed_draws_the_same_rows() -> None:
    """A round that is repeated trains alike."""
    group = Group(np.arange(10), 1.0)
    assert (_sampler(group, seed=4).draw(3, 8) == _sampler(group, seed=4).draw(3, 8)).all()


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [np.inf, 1.0]])
def test_weights_that_are_no_probabilities_are_refused(weights: list[float]) -> None:
    """All zero, negative or non-finite weights raise instead of drawing something."""
    with pytest.raises(ValueError, match="finite"):
        _sampler(Group(np.arange(2), 1.0, np.array(weights, np.float32)))


def test_an_empty_group_is_refused() -> None:
    """There is nothing to draw."""
    with pytest.raises(ValueError, match="at least one row"):
        _sampler(Group(np.arange(0), 1.0))
