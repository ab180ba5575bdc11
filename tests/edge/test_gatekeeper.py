"""Training waits for serving and for the policy, between two steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.learning.trainer import Trainer
from edge.learning.tuning import tune
from edge.local_api.turnstile import Turnstile
from edge.scheduling.conditions import Conditions
from edge.scheduling.gatekeeper import Gatekeeper
from edge.scheduling.policy import Policy
from edge.storage.store import Store
from edge.tunnel.session import Session
from edge.waiting import asked_of_the_moment
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from tests.edge.samples import samples

_PATIENCE_S = 30.0


class _Keeper:
    """A gatekeeper over a machine whose temperature is written by the test (emulated)."""

    def __init__(self, folder: Path, store: Store, policy: Policy, asked: dict[str, Any] | None = None) -> None:
        self._zone = folder / "sys/class/thermal/thermal_zone0"
        self._zone.mkdir(parents=True)
        (self._zone / "type").write_text("cpu\n")
        self.heat(40)
        self.events: list[dict[str, Any]] = []
        self.turnstile = Turnstile()
        conditions = Conditions(folder, None, lambda: None)
        self.keeper = Gatekeeper(
            policy, conditions, store, lambda: None, turnstile=self.turnstile, emit=self.events.append,
            asked=lambda: asked,
        )  # fmt: skip

    def heat(self, degrees_c: int) -> None:
        """Set the zone's temperature."""
        (self._zone / "temp").write_text(f"{degrees_c * 1000}\n")


def test_a_device_waits_for_what_its_task_asks(tmp_path: Path) -> None:
    """Beside what its owner asks."""
    with Store(tmp_path / "state") as store:
        one = _Keeper(tmp_path, store, Policy(), {"most_temperature_c": 30})
        assert one.keeper.decide().against == ("temperature",)
        one.heat(29)
        assert one.keeper.decide().act


def test_the_task_that_counts_is_that_of_the_round(tmp_path: Path) -> None:
    """Of an unfinished round, else the newest that was heard."""
    blob = BlobRef("a" * 64, 10)
    begun, heard = (Task(n, {}, {}, blob, blob, policy={"least_new_samples": n}) for n in (1, 2))
    with Store(tmp_path / "state") as store:
        session = Session(None, store, lambda _event: None, 1.0)  # type: ignore[arg-type]
        assert asked_of_the_moment(store, session) is None
        session.task = heard
        assert asked_of_the_moment(store, session) == heard.policy
        store.rounds.begin(begun, "sync")
        assert asked_of_the_moment(store, session) == begun.policy


def test_a_decision_is_told_when_it_changes(tmp_path: Path) -> None:
    """Not again and again while it stands; the record says how often what was against the round."""
    with Store(tmp_path / "state") as store:
        one = _Keeper(tmp_path, store, Policy(most_temperature_c=60.0, least_new_samples=5))
        one.heat(70)
        assert not one.keeper.decide().act
        assert not one.keeper.decide().act
        one.heat(50)
        assert one.keeper.decide().act
    assert [event["act"] for event in one.events] == [False, True]
    assert one.events[0]["reasons"] == {"temperature": "70 C, at most 60 C"}
    assert one.keeper.report() == {
        "policy": "power: on the mains; temperature: 50 C, at most 60 C; samples: no round was done yet",
        "policy_times_against": "temperature 2",
    }


def _in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_round_pauses_and_resumes_within_one_step(tmp_path: Path, recommender: Trainer) -> None:
    """A board that gets too hot stops between two batches, and goes on where it stood when it has cooled."""
    steps, paused = [0], threading.Event()
    with Store(tmp_path / "state") as store:
        one = _Keeper(tmp_path, store, Policy(most_temperature_c=60.0))

        def before_step() -> None:
            steps[0] += 1
            if steps[0] == 20:
                one.heat(90)
                while not one.turnstile._closed:
                    threading.Event().wait(0.001)
                paused.set()
            one.turnstile.let_pass()

        recommender.model.before_step = before_step
        recipe = Recipe(steps=40)
        local = samples(60)
        with one.keeper.watching(every_s=0.005):
            work = _in_thread(lambda: tune(recommender, local, local.take(slice(0)), local.label[:0], recipe))
            assert paused.wait(_PATIENCE_S)
            work.join(0.05)
            assert (work.is_alive(), steps[0]) == (True, 20)
            one.heat(40)
            work.join(_PATIENCE_S)
        assert (work.is_alive(), steps[0]) == (False, 40)
    assert [event["act"] for event in one.events if event["event"] == "decision"][-2:] == [False, True]


def test_training_waits_for_requests(recommender: Trainer) -> None:
    """While a request is inside no step is taken; after it the next one is, with the same result as without a wait."""
    turnstile, waiting = Turnstile(), threading.Event()
    recipe, local = Recipe(steps=10), samples(60)
    alone = tune(recommender, local, local.take(slice(0)), local.label[:0], recipe)

    def before_step() -> None:
        if turnstile._inside:
            waiting.set()
        turnstile.let_pass()

    recommender.model.before_step = before_step
    found = []
    with turnstile.serving():
        work = _in_thread(lambda: found.append(tune(recommender, local, local.take(slice(0)), local.label[:0], recipe)))
        assert waiting.wait(_PATIENCE_S)
    work.join(_PATIENCE_S)
    assert turnstile.waits >= 1
    assert found[0].losses.tolist() == alone.losses.tolist()


def test_whoever_waits_at_a_closed_turnstile_hears_of_the_stop() -> None:
    """A service that is told to stop is not held up by its policy."""
    stop = threading.Event()
    turnstile = Turnstile(stop)
    turnstile.close()
    waiter = _in_thread(turnstile.let_pass)
    stop.set()
    waiter.join(_PATIENCE_S)
    assert not waiter.is_alive()


def test_a_flood_of_requests_does_not_starve_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that never ends is passed by in the end."""
    monkeypatch.setattr("edge.local_api.turnstile.MOST_WAIT_S", 0.01)
    turnstile = Turnstile()
    with turnstile.serving():
        turnstile.let_pass()
    assert turnstile.waits == 1
