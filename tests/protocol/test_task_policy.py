"""What a task may ask of the moment: bounded, and not said to devices that know no policy."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.envelope import decode, encode
from protocol.errors import MalformedMessageError
from protocol.messages import BlobRef, Task
from protocol.task_policy import BOUNDS, NAMES, check_task_policy
from tests.protocol.strategies import PROPERTY, plain_values

BLOB = BlobRef("0123456789abcdef" * 4, 10)


def test_a_task_without_a_policy_reads_as_before_there_were_any() -> None:
    """Its bytes name no policy, so that an older device takes it; one from an older cloud has none."""
    payload = encode(Task(1, {}, {}, BLOB, BLOB), "m1")
    body = msgpack.unpackb(payload)["b"]
    assert set(body) == {"version", "features", "recipe", "recommender", "classifier", "rows"}
    assert decode("down", "task", payload).message == Task(1, {}, {}, BLOB, BLOB)


def test_a_policy_travels_whole() -> None:
    """Every name with a value of its type."""
    policy: dict[str, Any] = {
        "on_battery": False, "least_battery": 0.5, "least_idle_cpu": 0.25, "most_temperature_c": 60,
        "while_throttled": False, "on_metered_link": False, "hours": "22:00-06:30", "least_new_samples": 10,
        "drift": 0.2,
    }  # fmt: skip
    assert set(policy) == NAMES
    task = Task(1, {}, {}, BLOB, BLOB, policy=policy)
    assert decode("down", "task", encode(task, "m1")).message == task


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"least_batery": 0.5}, "unknown in its policy"),
        ({"least_battery": 1.5}, r"least_battery 1.5 is not in 0\.\.1"),
        ({"least_battery": True}, "cannot be 'True'"),
        ({"least_battery": float("nan")}, "cannot be 'nan'"),
        ({"least_new_samples": 2.5}, "cannot be '2.5'"),
        ({"on_battery": 1}, "cannot be '1'"),
        ({"hours": "24:00-01:00"}, "hours"),
        ({"hours": None}, "cannot be 'None'"),
    ],
)
def test_a_policy_out_of_bounds_is_refused(policy: dict[str, Any], says: str) -> None:
    """Neither side lets it through."""
    with pytest.raises(MalformedMessageError, match=says):
        Task(1, {}, {}, BLOB, BLOB, policy=policy)


@PROPERTY
@given(st.dictionaries(st.sampled_from(sorted(NAMES)) | st.text(max_size=4), plain_values, max_size=4))
def test_whatever_is_asked_is_within_bounds_or_refused(policy: dict[str, Any]) -> None:
    """Only a MalformedMessageError escapes."""
    try:
        check_task_policy(policy)
    except MalformedMessageError:
        return
    assert all(BOUNDS[name][0] <= policy[name] <= BOUNDS[name][1] for name in set(BOUNDS) & set(policy))
