"""May the device train: properties of the decision, and the machine as it is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.scheduling.conditions import Conditions
from edge.scheduling.drift import LEAST_SAMPLES, Drift
from edge.scheduling.policy import Policy, State, decide, decide_update

_share = st.floats(0, 1)
_clock = st.builds(lambda h, m: f"{h:02d}:{m:02d}", st.integers(0, 23), st.integers(0, 59))
_states = st.builds(
    State,
    minute=st.integers(0, 1439),
    new_samples=st.integers(0, 200),
    on_mains=st.none() | st.booleans(),
    battery=st.none() | _share,
    idle_cpu=st.none() | _share,
    temperature_c=st.none() | st.floats(-20, 110),
    throttled=st.none() | st.frozensets(st.sampled_from(["throttled", "under-voltage"])),
    metered=st.none() | st.booleans(),
    data_left_bytes=st.none() | st.integers(0, 1000),
    drift=st.none() | st.floats(-1, 1),
    first_round=st.booleans(),
)
_policies = st.builds(
    Policy,
    on_battery=st.booleans(),
    least_battery=_share,
    least_idle_cpu=st.none() | _share,
    most_temperature_c=st.none() | st.floats(0, 120),
    while_throttled=st.booleans(),
    on_metered_link=st.booleans(),
    hours=st.none() | st.builds("{}-{}".format, _clock, _clock),
    least_new_samples=st.integers(0, 200),
    drift=st.none() | _share,
)
_ALLOWS_ALL = Policy(
    least_battery=0, most_temperature_c=None, while_throttled=True, least_new_samples=0, hours="08:00-08:00"
)


@settings(deadline=None)
@given(_states, _policies)
def test_it_acts_unless_something_is_against_it(state: State, policy: Policy) -> None:
    """The answer is that of its reasons, each named once, and the same every time."""
    decision = decide(state, policy)
    assert decision == decide(state, policy)
    assert decision.act == (not decision.against)
    names = [reason.name for reason in decision.reasons]
    assert len(set(names)) == len(names)
    assert all(reason.detail for reason in decision.reasons)


@settings(deadline=None)
@given(_states, _policies)
def test_a_better_state_is_never_a_reason_to_wait(state: State, policy: Policy) -> None:
    """On the mains, cool, idle, with more samples: what was allowed stays allowed."""
    better: list[dict[str, Any]] = [
        {"on_mains": True},
        # That there is a battery at all may be news, and news that it may be running down.
        {} if (state.on_mains, state.battery) == (None, None) else {"battery": 1.0},
        {"idle_cpu": 1.0},
        {"temperature_c": -20.0},
        {"throttled": frozenset()},
        {"metered": False},
        {"data_left_bytes": 1001},
        {"new_samples": 201},
        {"first_round": True},
    ]
    before = decide(state, policy)
    for change in better:
        after = decide(replace(state, **change), policy)
        assert {*after.against} <= {*before.against}, change


@settings(deadline=None)
@given(_states, _policies)
def test_what_is_not_known_forbids_nothing(state: State, policy: Policy) -> None:
    """A condition that cannot be read is not among the reasons."""
    blind = State(minute=state.minute, new_samples=state.new_samples)
    assert {*decide(blind, policy).against} <= {"hours", "samples"}


@settings(deadline=None)
@given(_states)
def test_a_policy_that_allows_everything_is_stopped_by_data_alone(state: State) -> None:
    """A spent budget is not the policy's to overrule."""
    assert {*decide(state, _ALLOWS_ALL).against} <= {"data"}


@settings(deadline=None)
@given(_states, _policies, st.fixed_dictionaries({}, optional={
    "on_battery": st.booleans(), "least_battery": _share, "most_temperature_c": st.floats(0, 120),
    "on_metered_link": st.booleans(), "least_new_samples": st.integers(0, 200),
}))  # fmt: skip
def test_a_task_can_only_make_a_device_wait(state: State, policy: Policy, asked: dict[str, Any]) -> None:
    """What the owner forbids stays forbidden, what the task does not name it allows, and each reason is told once."""
    owner, task = decide(state, policy), Policy.of_task(asked)
    both = decide(state, policy, task)
    assert {*both.against} == {*owner.against, *decide(state, task).against}
    assert decide(state, policy, Policy.of_task(None)) == owner
    assert len({reason.name for reason in both.reasons}) == len(both.reasons)


def test_what_a_task_asks_is_told_as_its_own() -> None:
    """So that an owner knows who makes the device wait."""
    state = State(minute=0, new_samples=0, on_mains=False, battery=0.4)
    said = decide(state, Policy(), Policy.of_task({"least_battery": 0.5})).to_event()
    assert said["reasons"] == {"power": "battery at 40%, 50% are needed, as the task asks"}


@settings(deadline=None)
@given(st.integers(0, 1439), _clock, _clock)
def test_hours_may_pass_midnight(minute: int, begin: str, end: str) -> None:
    """A moment is within the hours if counting on from their begin meets it before their end; equal ones are a day."""
    begin_min, end_min = (int(text[:2]) * 60 + int(text[3:]) for text in (begin, end))
    length = (end_min - begin_min) % 1440 or 1440
    within = {(begin_min + passed) % 1440 for passed in range(length)}
    decision = decide(State(minute=minute, new_samples=0), Policy(hours=f"{begin}-{end}"))
    assert decision.act == (minute in within)


@pytest.mark.parametrize(
    ("state", "policy", "against"),
    [
        ({"on_mains": False, "battery": 0.2}, {}, ("power",)),
        ({"on_mains": False, "battery": 0.9}, {"on_battery": False}, ("power",)),
        ({"on_mains": True, "battery": 0.2}, {}, ()),
        ({"battery": 0.2}, {}, ("power",)),
        ({"battery": 0.9}, {}, ()),
        ({"battery": 0.9}, {"on_battery": False}, ("power",)),
        ({}, {"on_battery": False}, ()),
        ({"temperature_c": 81.0}, {}, ("temperature",)),
        ({"throttled": frozenset({"under-voltage"})}, {}, ("throttling",)),
        ({"metered": True}, {"on_metered_link": False}, ("link",)),
        ({"metered": True}, {}, ()),
        ({"idle_cpu": 0.3}, {"least_idle_cpu": 0.5}, ("cpu",)),
        ({"data_left_bytes": 0}, {}, ("data",)),
        ({}, {"least_new_samples": 10}, ("samples",)),
        ({"first_round": True}, {"least_new_samples": 10}, ()),
        ({"drift": 0.2}, {"least_new_samples": 10}, ()),
        ({"drift": 0.05}, {"least_new_samples": 10}, ("samples",)),
    ],
)
def test_each_condition(state: dict[str, Any], policy: dict[str, Any], against: tuple[str, ...]) -> None:
    """Alone, against the policy that knows it."""
    assert decide(State(**{"minute": 0, "new_samples": 5, **state}), Policy(**policy)).against == against


def test_an_event_tells_what_forbids_or_else_what_was_looked_at() -> None:
    """As it is logged."""
    state = State(minute=0, new_samples=0, on_mains=True, temperature_c=90.0)
    assert decide(state, Policy()).to_event() == {
        "event": "decision",
        "act": False,
        "reasons": {"temperature": "90 C, at most 80 C"},
    }
    assert decide(replace(state, temperature_c=50.0), Policy()).to_event()["reasons"] == {
        "power": "on the mains",
        "temperature": "50 C, at most 80 C",
    }


@pytest.mark.parametrize("bad", [{"least_battery": 2.0}, {"hours": "24:00-01:00"}, {"drift": -1.0}])
def test_a_policy_out_of_bounds_is_told(bad: dict[str, Any]) -> None:
    """It names the value."""
    with pytest.raises(ConfigError, match=f"policy.{next(iter(bad))}"):
        Policy(**bad)


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


_ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n{}\t00000000\t010011AC\t0003\t0\t0\t0\t00000000"
)
_BATTERY = "sys/class/power_supply/BAT0/"


def test_a_board_is_read(tmp_path: Path) -> None:
    """A battery that discharges, a modem, a hot zone, and processors idle a quarter of the time (emulated)."""
    root = _write(
        tmp_path,
        {
            _BATTERY + "type": "Battery",
            _BATTERY + "status": "Discharging",
            _BATTERY + "capacity": "42",
            "proc/net/route": _ROUTES.format("wwan0"),
            "sys/class/net/wwan0/uevent": "DEVTYPE=wwan\nINTERFACE=wwan0",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": "71500",
            "proc/stat": "cpu 100 0 0 100 0 0 0 0 0 0",
        },
    )
    conditions = Conditions(root, None, lambda: 0.2)
    _write(tmp_path, {"proc/stat": "cpu 160 0 15 120 5 0 0 0 0 0\ncpu0 1 1"})
    state = conditions.look(new_samples=3, data_left_bytes=7, first_round=False)
    assert (state.on_mains, state.battery, state.metered, state.temperature_c) == (False, 0.42, True, 71.5)
    assert (state.idle_cpu, state.throttled, state.drift) == (0.25, None, 0.2)
    assert (state.new_samples, state.data_left_bytes, state.first_round) == (3, 7, False)


def test_a_board_that_tells_nothing_is_on_the_mains(tmp_path: Path) -> None:
    """Without a battery there is nothing else; all else is unknown. What the owner says of the link counts."""
    state = Conditions(tmp_path, True, lambda: None).look(new_samples=0, data_left_bytes=None, first_round=True)
    assert (state.on_mains, state.battery, state.idle_cpu, state.temperature_c) == (True, None, None, None)
    assert state.metered is True


@pytest.mark.parametrize(
    ("status", "scope", "on_mains"),
    [
        ("Charging", "System", True),
        ("Full", "System", True),
        ("Unknown", "System", None),
        ("Discharging", "Device", True),
    ],
)
def test_what_a_battery_says(tmp_path: Path, status: str, scope: str, on_mains: bool | None) -> None:
    """One that charges is on the mains; that of a mouse does not count."""
    files = {_BATTERY + "type": "Battery", _BATTERY + "status": status, _BATTERY + "scope": scope}
    state = Conditions(_write(tmp_path, files), None, lambda: None).look(
        new_samples=0, data_left_bytes=None, first_round=True
    )
    assert state.on_mains is on_mains


def test_a_battery_that_says_its_charge_alone_counts_as_running_down(tmp_path: Path) -> None:
    """As fuel gauges do that see no charger: the reason says so, for rounds and for releases (emulated)."""
    files = {_BATTERY + "type": "Battery", _BATTERY + "status": "Unknown", _BATTERY + "capacity": "20"}
    state = Conditions(_write(tmp_path, files), None, lambda: None).look(
        new_samples=0, data_left_bytes=None, first_round=True
    )
    (reason,) = [one for one in decide(state, Policy()).reasons if not one.allows]
    taken = "the battery does not say whether it is charged, so taken as on battery"
    assert reason.detail == f"{taken}: at 20%, 30% are needed"
    (reason,) = [
        one for one in decide_update(state, Policy(), download_bytes=0, disk_bytes=0).reasons if not one.allows
    ]
    assert reason.detail == f"{taken}; policy.update_on_battery is false"


def test_an_ethernet_link_is_not_metered(tmp_path: Path) -> None:
    """Nor is there an answer without a default route."""
    root = _write(tmp_path, {"proc/net/route": _ROUTES.format("eth0")})
    look = Conditions(root, None, lambda: None).look(new_samples=0, data_left_bytes=None, first_round=True)
    assert look.metered is False


def test_drift_is_the_rise_of_the_loss() -> None:
    """Against the gate's hold-out, or the first samples where there was none; unknown while there are too few."""
    told = Drift(0.5)
    told.see([0.8] * (LEAST_SAMPLES - 1))
    assert told.value is None
    told.see([0.8])
    assert told.value == pytest.approx(0.3)
    untold = Drift(None)
    untold.see([0.4] * LEAST_SAMPLES + [0.6] * LEAST_SAMPLES)
    assert untold.value == pytest.approx(0.2)
