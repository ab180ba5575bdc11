"""What a whole round's bytes were for, and a month that does not suffice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.purposes import MODEL, PURPOSES, SAMPLES, SOFTWARE
from protocol.recipe import Recipe
from tests.edge.samples import samples
from tests.end_to_end.conftest import Device, record_of

pytestmark = pytest.mark.broker

RECIPE = Recipe(steps=50, classifier_steps=50, match_samples=500)


def test_a_rounds_bytes_sum_over_purposes(cloud: Callable[..., Any], device: Callable[..., Device]) -> None:
    """As much as the phases carried together, at each depth; models and samples weigh what their files do."""
    one = device("data-round")
    one.add(samples(100))
    with cloud(RECIPE):
        record = record_of(one.run().finish())
    assert set(record.traffic) == set(PURPOSES) - {SOFTWARE}  # no release was offered
    totals = record.totals.to_dict()
    for depth in ("payload", "mqtt", "tcp"):
        for way in ("up", "down"):
            name = f"{depth}_{way}_bytes"
            whole = sum(used[name] or 0 for used in record.traffic.values())
            # Phases are all that a round of one run does, but for acknowledgements on their way as a phase ends.
            assert whole == pytest.approx(totals[name], rel=0.02, abs=600), name
    with one.store() as store:
        ref = store.rounds.serving()
        assert ref is not None
        size = store.blobs.path(ref.model_sha256).stat().st_size
        charged = store.data_use.charged_this_month()
    # The classifier beside it.
    assert size < (record.traffic[MODEL]["payload_down_bytes"] or 0) < 1.1 * size + 20_000
    assert (record.traffic[SAMPLES]["payload_down_bytes"] or 0) > 3_000
    assert charged >= (totals["tcp_up_bytes"] or 0) + (totals["tcp_down_bytes"] or 0)


def test_a_round_takes_what_the_month_leaves_or_waits(cloud: Callable[..., Any], device: Callable[..., Device]) -> None:
    """Without room for the files it is not begun, and says why; with little room it is given fewer samples."""
    one = device("data-poor")
    one.add(samples(100))
    poor = device("data-poor", data_budget_bytes_per_month=60_000)
    with cloud(RECIPE):
        refused = poor.run()
        refused.events()
        assert refused.process.wait(60) == 1
        assert "this month's 60000 bytes" in refused.errors()
        with one.store() as store:
            assert store.rounds.unfinished() is None
            spent = store.data_use.charged_this_month()
            assert 0 < spent < 20_000
        rich = device("data-poor", data_budget_bytes_per_month=50_000_000)
        record = record_of(rich.run().finish())
    assert record.conditions["data_budget_bytes_per_month"] == 50_000_000
    assert 0 < record.conditions["data_left_bytes"] < 50_000_000 - spent
