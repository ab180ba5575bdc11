"""The numbers that a device judges by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.learning.metrics import auc, log_loss


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_auc_is_the_share_of_ordered_pairs(pairs: list[tuple[int, bool]]) -> None:
    """It equals counting every positive against every negative, ties as half; one class gives None."""
    scores, labels = np.array([s for s, _ in pairs], np.float32), np.array([y for _, y in pairs], np.float32)
    difference = scores[labels > 0][:, None] - scores[labels == 0][None, :]
    expected = None if difference.size == 0 else float(np.mean((difference > 0) + 0.5 * (difference == 0)))
    assert auc(scores, labels) == (expected if expected is None else pytest.approx(expected))


def test_log_loss_of_a_coin_is_ln_2() -> None:
    """Logit 0 is probability one half."""
    assert log_loss(np.zeros(4, np.float32), np.array([0, 1, 1, 0], np.float32)) == pytest.approx(np.log(2))


def test_log_loss_does_not_overflow() -> None:
    """A confident mistake costs its logit."""
    assert log_loss(np.array([1000.0]), np.array([0.0])) == pytest.approx(1000.0)
