"""A fleet in an evaluation: each device hears other users' devices, never itself and never a test sample."""

from __future__ import annotations

import pytest

from evaluation.fleet import GROUPS, after_fleet
from evaluation.scores import DeviceRow, Score
from protocol.fleet_gain import ReportedGain
from protocol.recipe import Recipe

_H0, _PERSONAL = Score(0.6, 0.5, None), Score(0.7, 0.4, None)


def _row(user: int, gain: float | None, *, activated: bool = True) -> DeviceRow:
    scores = {"cloud": _H0, "coda": _PERSONAL if activated else _H0}
    reported = None if gain is None else ReportedGain(20, gain, None)
    return DeviceRow(user, 20, 10, 100, 80, 1000, activated, "own", None, scores, reported, _PERSONAL)


def _served(rows: tuple[DeviceRow, ...]) -> list[bool]:
    for row in rows:
        assert row.scores["coda"] == (_PERSONAL if row.activated else _H0)
    return [row.activated for row in rows]


@pytest.mark.parametrize(("gain", "activated"), [(0.01, True), (-0.05, False)])
def test_all_serve_what_pays_on_others(gain: float, activated: bool) -> None:
    """h0 where devices lost; the test's scores play no part, they are the same in both cases."""
    assert _served(after_fleet([_row(user, gain) for user in range(150)], Recipe())) == [activated] * 150


def test_a_device_does_not_hear_itself() -> None:
    """The only group that gains hears losses alone, also where a user is there once a seed."""
    rows = [_row(user, 0.9 if user % GROUPS == 0 else -0.1) for _seed in range(2) for user in range(150)]
    assert _served(after_fleet(rows, Recipe())) == [user % GROUPS != 0 for _seed in range(2) for user in range(150)]


def test_a_veto_and_a_round_that_never_was_stay() -> None:
    """The fleet talks nobody into a personal model."""
    rows = [
        *(_row(user, 0.1) for user in range(150)),
        _row(150, 0.1, activated=False),
        _row(151, None, activated=False),
    ]
    assert _served(after_fleet(rows, Recipe())) == [True] * 150 + [False] * 2


def test_few_devices_have_no_fleet() -> None:
    """Each then goes by its own hold-out."""
    rows = tuple(_row(user, -0.1) for user in range(10))
    assert after_fleet(rows, Recipe()) == rows


def test_rows_keep_what_a_device_reported() -> None:
    """Through a line of a file."""
    assert DeviceRow.from_dict(_row(1, 0.25).to_dict()) == _row(1, 0.25)
