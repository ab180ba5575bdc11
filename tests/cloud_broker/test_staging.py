"""Staged rollouts: they go on when enough devices are well, and stop by evidence that may be looked at at any time."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_broker.errors import TaskError
from cloud_broker.tasks.proportions import Share, has_risen, is_above, upper_bound
from cloud_broker.tasks.staging import DONE, PAUSED, RUNNING, STOPPED, Bounds, Heard, Plan, Progress, Stage, Told

PLAN = Plan((Stage(1, 3, 60), Stage(10, 20, 60), Stage(100, 50, 0)))
WELL = Told(100, 1, 90, 30)
BEGUN = Progress(RUNNING, 0, 1000.0)
_ALPHA = 0.01

_told = st.integers(0, 300).flatmap(
    lambda n: st.builds(Told, st.just(n), st.integers(0, n), st.integers(0, n)).flatmap(
        lambda told: st.integers(0, told.judged).map(lambda refusals: replace(told, refusals=refusals))
    )
)
_begun = st.builds(Progress, st.sampled_from([RUNNING, PAUSED, DONE]), st.integers(0, 2), st.just(1000.0))


def heard(told: Told, fresh: int, members: int) -> Heard:
    """Beside a rest that is well."""
    return Heard(told, WELL, fresh, members)


def test_a_rollout_goes_on_stage_by_stage() -> None:
    """When its time is over and devices have reported that are new in it, one stage a look, to the end."""
    few, enough = heard(Told(2, 0, 2, 1), 2, 10), heard(Told(3, 0, 3, 1), 3, 10)
    assert BEGUN.look(PLAN, few, 5000.0) == BEGUN
    assert BEGUN.look(PLAN, enough, 1059.0) == BEGUN
    second = BEGUN.look(PLAN, enough, 1060.0)
    assert second == Progress(RUNNING, 1, 1060.0)
    assert second.look(PLAN, heard(Told(22, 0, 22, 6), 19, 100), 2000.0) == second
    third = second.look(PLAN, heard(Told(23, 0, 23, 6), 20, 100), 2000.0)
    assert third.look(PLAN, heard(Told(73, 0, 73, 20), 50, 500), 2000.0) == Progress(DONE, 2, 2000.0)


def test_a_stage_of_few_devices_does_not_wait_for_more_than_there_are() -> None:
    """Four in five must have reported, so that one that is away holds nobody up; of none nothing is heard."""
    stage = Stage(1, 20, 0)
    assert [stage.has_heard(reports, 5) for reports in (3, 4)] == [False, True]
    assert [stage.has_heard(reports, 1) for reports in (0, 1)] == [False, True]
    assert stage.has_heard(0, 0)
    assert [stage.has_heard(reports, 1000) for reports in (19, 20)] == [False, True]


@settings(deadline=None)
@given(_told, _told, st.integers(0, 500), st.floats(0, 1e6), _begun)
def test_a_look_never_goes_back(told: Told, rest: Told, members: int, passed_s: float, before: Progress) -> None:
    """At most one stage on; only what runs goes on; what is wrong stops it in any state, with the reason, for good."""
    said = Heard(told, rest, told.devices // 2, members)
    after = before.look(PLAN, said, before.since_s + passed_s)
    fault = PLAN.bounds.fault(told, rest)
    assert (after.state == STOPPED) == (fault is not None)
    assert after.stage - before.stage in (0, 1)
    if before.state != RUNNING and fault is None:
        assert after == before
    if fault is not None:
        assert after.reason == fault
        assert after.look(PLAN, heard(WELL, 50, members), 1e9) == after


def test_an_operator_pauses_resumes_and_stops() -> None:
    """What is paused begins no stage; what is stopped stays so."""
    paused = BEGUN.pause()
    assert paused.look(PLAN, heard(Told(50, 0, 50, 15), 50, 100), 9000.0) == paused
    assert paused.resume() == BEGUN
    stopped = paused.stop("by hand")
    for wrong in (paused.pause, stopped.pause, stopped.resume, BEGUN.resume):
        with pytest.raises(TaskError, match="cannot be"):
            wrong()
    with pytest.raises(TaskError, match="stopped already: by hand"):
        stopped.stop("again")


@pytest.mark.parametrize(
    ("told", "rest", "says"),
    [
        (Told(5, 5, 0, 0), Told(), "rounds fail on 5 of 5"),
        (Told(20, 0, 20, 20), Told(500, 0, 400, 200), "gates refuse on 20 of 20 .* on 200 of 400 .* of the rest"),
        (Told(100, 15, 80, 30), Told(1000, 20, 800, 300), "rounds fail on 15 of 100 .* on 20 of 1000"),
        (Told(200, 0, 200, 199), Told(), "gates refuse on 199 of 200 .*, at most 90% are allowed"),
        (Told(2, 2, 0, 0), WELL, None),
        (Told(100, 2, 80, 30), WELL, None),
        (Told(100_000, 3_000, 80_000, 30_000), Told(100_000, 2_000, 80_000, 30_000), None),
    ],
)
def test_what_stops_a_rollout(told: Told, rest: Told, says: str | None) -> None:
    """Shares above the bound or the rest's, by evidence; neither two unlucky devices nor a rise that hardly matters."""
    fault = Bounds().fault(told, rest)
    assert (fault is None) == (says is None)
    assert re.search(says or "", fault or "")


def test_looking_after_every_report_seldom_stops_what_does_no_harm() -> None:
    """Of 400 harmless rollouts, each looked at 100 times, no more are stopped than the rule's chance says."""
    rng = np.random.default_rng(1)
    wrong = {"above": 0, "risen": 0}
    for _ in range(400):
        seen, other = np.cumsum(rng.random(100) < 0.2), Share(int(rng.binomial(100, 0.2)), 100)
        shares = [Share(int(hits), number) for number, hits in enumerate(seen, 1)]
        wrong["above"] += any(is_above(share, 0.2, _ALPHA) for share in shares)
        wrong["risen"] += any(has_risen(share, other, _ALPHA) for share in shares)
    assert max(wrong.values()) <= 12  # 4, and four standard errors


@pytest.mark.parametrize("others", [20, 200, 20_000])
def test_harm_is_found(others: int) -> None:
    """Where every gate refuses, and three in ten did before, a dozen devices are enough; also beside a small rest."""
    other = Share(round(0.3 * others), others)
    first = next(number for number in range(1, 100) if has_risen(Share(number, number), other, _ALPHA))
    assert first <= 13


@settings(deadline=None)
@given(st.integers(0, 400).flatmap(lambda of: st.builds(Share, st.integers(0, of), st.just(of))), st.floats(0.001, 0.5))
def test_an_upper_bound_is_above_what_was_seen(share: Share, alpha: float) -> None:
    """And nearer to it the more may be wrong."""
    bound = upper_bound(share, alpha)
    assert (share.value or 0.0) <= bound <= 1
    assert upper_bound(share, alpha / 2) >= bound


def test_a_plan_survives_its_database() -> None:
    """As plain values; one that cannot be is refused."""
    assert Plan.from_dict(json.loads(json.dumps(PLAN.to_dict()))) == PLAN
    for stages in ((), (Stage(10, 1, 0), Stage(10, 1, 0)), (Stage(10, 1, 0), Stage(1, 1, 0))):
        with pytest.raises(TaskError, match="each larger"):
            Plan(stages)
    for wrong in ((0, 1, 0), (101, 1, 0), (1, -1, 0), (1, 1, -1), (1, 1, float("inf"))):
        with pytest.raises(TaskError, match="a stage is"):
            Stage(*wrong)
    with pytest.raises(TaskError, match="most_failed is a share"):
        Bounds(most_failed=2)
    with pytest.raises(ValueError, match="3 of 2"):
        Share(3, 2)
