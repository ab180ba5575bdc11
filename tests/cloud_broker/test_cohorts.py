"""Cohorts, arms and what they change: who is in, and what a device then has."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_broker.errors import CohortError, TaskError
from cloud_broker.tasks.arms import CONTROL, Arm, arm_of, check_arms
from cloud_broker.tasks.cohorts import Cohort, check_tag
from cloud_broker.tasks.overrides import Overrides, TaskModel, read_settings
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe

DEVICES = [f"device-{number}" for number in range(2000)]
BLOB, OTHER = BlobRef("a" * 64, 10), BlobRef("b" * 64, 20)
BASE = Task(3, {"features": []}, Recipe().to_dict(), BLOB, BLOB)


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=8), st.floats(0.001, 100), st.floats(0.001, 100))
def test_a_larger_share_contains_a_smaller(device: str, salt: str, first: float, second: float) -> None:
    """Whoever has it at 1% has it at 10%, so a stage takes nothing back."""
    small, large = sorted((first, second))
    if Cohort(percent=small).has(device, "board", salt):
        assert Cohort(percent=large).has(device, "board", salt)


def test_a_share_is_about_so_large_and_its_own() -> None:
    """A tenth of the fleet is about a tenth, and another rollout begins with other devices."""
    tenths = [{name for name in DEVICES if Cohort(percent=10).has(name, "", salt)} for salt in ("task-1", "task-2")]
    assert all(150 < len(tenth) < 250 for tenth in tenths)
    assert len(tenths[0] & tenths[1]) < 50


def test_all_that_is_said_must_fit() -> None:
    """Names, board and every tag."""
    cohort = Cohort(devices=("a", "b"), board="Raspberry Pi 5*", tags=("shop=berlin", "line=2"))
    tags = ("line=2", "shop=berlin", "old=yes")
    assert cohort.has("a", "Raspberry Pi 5 Model B", "x", tags)
    assert not cohort.has("a", "Raspberry Pi 5 Model B", "x", ("shop=berlin",))
    assert not cohort.has("a", "Raspberry Pi 4", "x", tags)
    assert not cohort.has("c", "Raspberry Pi 5 Model B", "x", tags)
    assert Cohort.from_dict(json.loads(json.dumps(cohort.to_dict()))) == cohort
    assert str(cohort) == "100% of a, b on Raspberry Pi 5* tagged shop=berlin, line=2"


@pytest.mark.parametrize("wrong", [{"percent": 0}, {"percent": 101}, {"percent": float("nan")}, {"tags": ("berlin",)}])
def test_a_cohort_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """With what is wrong."""
    with pytest.raises(CohortError):
        Cohort(**wrong)
    with pytest.raises(CohortError, match="shop=berlin"):
        check_tag("shop=ber lin")


def test_arms_share_devices_by_weight_and_for_good() -> None:
    """A device's arm follows from its name and the experiment alone; another experiment mixes anew."""
    arms = (Arm(CONTROL, weight=2.0), Arm("slow", Overrides({"steps": 7})), Arm("far", Overrides({"proximal": 0.1})))
    found = {name: arm_of(name, "experiment-1", arms).name for name in DEVICES}
    assert found == {name: arm_of(name, "experiment-1", arms).name for name in DEVICES}
    counts = Counter(found.values())
    assert counts == pytest.approx({CONTROL: 1000, "slow": 500, "far": 500}, rel=0.12)
    again = Counter(arm_of(name, "experiment-2", arms).name for name in DEVICES if found[name] == "slow")
    assert again[CONTROL] == pytest.approx(250, rel=0.2)
    tenth = [name for name in DEVICES if Cohort(percent=10).has(name, "", "experiment-1")]
    assert len({arm_of(name, "experiment-1", arms).name for name in tenth}) == 3


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ((Arm(CONTROL),), "1 to 9 other arms"),
        ((Arm("a", Overrides({"steps": 7})), Arm("b", Overrides({"steps": 8}))), "has 'control'"),
        ((Arm(CONTROL), Arm("a"), Arm("a")), "other arms"),
        ((Arm(CONTROL), Arm("a")), "arm a: the control changes nothing"),
        ((Arm(CONTROL, Overrides({"steps": 7})), Arm("a", Overrides({"steps": 8}))), "arm control"),
    ],
)
def test_arms_must_make_an_experiment(arms: tuple[Arm, ...], says: str) -> None:
    """One control, something to compare, each name once."""
    with pytest.raises(TaskError, match=says):
        check_arms(arms)


def test_overrides_change_what_they_name() -> None:
    """And nothing else; what travels through the database is the same afterwards."""
    model = TaskModel(9, {"features": [1]}, OTHER, OTHER)
    change = Overrides({"steps": 7}, {"least_battery": 0.5}, model)
    task = change.over(BASE)
    assert Recipe.from_dict(task.recipe) == Recipe(steps=7)
    assert (task.policy, task.recommender, task.features) == ({"least_battery": 0.5}, OTHER, {"features": [1]})
    assert Overrides().over(BASE) == BASE
    assert Overrides.from_dict(json.loads(json.dumps(change.to_dict()))) == change
    assert Arm.from_dict(json.loads(json.dumps(Arm("a", change, 2.0).to_dict()))) == Arm("a", change, 2.0)
    assert (str(change), str(Overrides())) == ("steps=7, policy.least_battery=0.5, model=9", "nothing")


@pytest.mark.parametrize(
    ("recipe", "policy", "says"),
    [
        ({"stepz": 7}, {}, "unknown fields"),
        ({"steps": 0}, {}, "at least 1"),
        ({"steps": "many"}, {}, "must be int"),
        ({"fleet_gains": []}, {}, "learnt, not chosen"),
        ({}, {"least_battery": 7}, "least_battery"),
        ({}, {"update_on_battery": True}, "unknown in its policy"),
    ],
)
def test_what_no_device_could_read_is_refused(recipe: dict[str, Any], policy: dict[str, Any], says: str) -> None:
    """Before it is rolled out."""
    with pytest.raises(TaskError, match=says):
        Overrides(recipe, policy)


def test_settings_are_read_as_they_are_written() -> None:
    """Numbers as numbers, words as words."""
    said = ["steps=200", "learning_rate=0.5", "keep_rule=hard", "on_battery=false"]
    expected = {"steps": 200, "learning_rate": 0.5, "keep_rule": "hard", "on_battery": False}
    assert read_settings(said, "--recipe") == expected
    for wrong in (["steps"], ["steps="], ["=7"], ["steps=1", "steps=2"]):
        with pytest.raises(TaskError, match="once each"):
            read_settings(wrong, "--recipe")
