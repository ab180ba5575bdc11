"""The statistics of experiments: values a person can look up, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_broker.tasks.differences import (
    FEWEST,
    chi_square_tail,
    difference_of_shares,
    mean_of,
    mismatch,
    student_quantile,
    welch,
)


@pytest.mark.parametrize(
    ("chance", "freedom", "value"),
    [
        (0.975, 1, 12.7062), (0.975, 4, 2.7764), (0.975, 30, 2.0423), (0.995, 10, 3.1693), (0.9995, 5, 6.8688),
        (0.95, 2.5, 2.5582), (0.975, 1e6, 1.9600), (0.5, 3, 0.0),
    ],
)  # fmt: skip
def test_students_quantiles(chance: float, freedom: float, value: float) -> None:
    """As printed tables have them."""
    assert student_quantile(chance, freedom) == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize(
    ("value", "freedom", "tail"),
    [(3.8415, 1, 0.05), (6.6349, 1, 0.01), (5.9915, 2, 0.05), (7.8147, 3, 0.05), (16.919, 9, 0.05), (0.0, 4, 1.0)],
)
def test_chi_squares_tails(value: float, freedom: int, tail: float) -> None:
    """As printed tables have them."""
    assert chi_square_tail(value, freedom) == pytest.approx(tail, abs=2e-6)


def test_welchs_interval() -> None:
    """By hand: variances 2.5 and 10 over 5 devices each, 5.88 degrees of freedom."""
    found = welch([1, 2, 3, 4, 5], [2, 4, 6, 8, 10], 0.95)
    assert found is not None
    assert found.difference == -3
    assert found.high - found.difference == pytest.approx(2.4590 * np.sqrt(2.5), abs=1e-3)
    assert not found.shown
    assert welch([1.0] * (FEWEST - 1), [2.0] * 50, 0.95) is None
    assert welch([1.0] * 40, [2.0] * 40, 0.95) is None
    assert (mean_of([]).mean, mean_of([2.0]).deviation, mean_of([1.0, 3.0]).mean) == (None, None, 2)


def test_few_devices_that_are_alike_are_not_certain() -> None:
    """All of 13 and of 19 said yes: each arm may yet have one in seven that says no; a real difference is seen."""
    found = difference_of_shares([1.0] * 13, [1.0] * 19, 0.95)
    assert found is not None
    assert found.difference == 0
    assert -0.3 < found.low < -0.1 < 0.1 < found.high < 0.3
    assert not found.shown
    other = difference_of_shares([1.0] * 30, [0.0] * 20 + [1.0] * 10, 0.95)
    assert other is not None
    assert other.low > 0.3
    assert difference_of_shares([1.0] * (FEWEST - 1), [1.0] * 50, 0.95) is None


def test_arms_that_are_the_same_seldom_differ() -> None:
    """Of 4,000 experiments of 30 skewed devices an arm, about one in twenty shows what is not there."""
    rng = np.random.default_rng(1)
    draws = rng.gamma(2.0, 0.05, (4000, 2, 30)) + rng.normal(0, 0.1, (4000, 2, 30))
    found = [welch(ours.tolist(), control.tolist(), 0.95) for ours, control in draws]
    wrong = np.mean([one is not None and one.shown for one in found])
    assert 0.037 < wrong < 0.063  # 0.05 and four standard errors


def test_several_arms_that_are_the_same_seldom_differ() -> None:
    """All intervals hold at once: of 1,500 experiments of two arms and a control, one in twenty shows anything."""
    rng = np.random.default_rng(3)
    wrong = 0
    for one, other, control in rng.gamma(2.0, 0.05, (1500, 3, 25)).tolist():
        found = [welch(arm, control, 0.975) for arm in (one, other)]
        wrong += any(each is not None and each.shown for each in found)
    assert 0.025 < wrong / 1500 < 0.07


def test_a_difference_that_is_there_is_found() -> None:
    """Half a deviation between 100 devices each is seen nine times in ten; its interval covers it as often as said."""
    rng = np.random.default_rng(2)
    draws = rng.normal(0, 1, (1000, 2, 100))
    found = [welch((ours + 0.5).tolist(), control.tolist(), 0.95) for ours, control in draws]
    assert np.mean([one is not None and one.low > 0 for one in found]) > 0.9
    assert 0.93 < np.mean([one is not None and one.low < 0.5 < one.high for one in found]) < 0.97


def test_a_mismatch_of_arms() -> None:
    """Half of the devices lost in one arm is no chance; a few more in one are."""
    assert mismatch([1000, 1020], [1, 1]) > 0.5
    assert mismatch([1000, 500], [1, 1]) < 1e-9
    assert mismatch([1000, 500], [2, 1]) == 1.0
    assert mismatch([0, 0], [1, 1]) == 1.0
