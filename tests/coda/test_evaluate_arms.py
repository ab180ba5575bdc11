"""`coda evaluate arms`: what can be compared."""

from __future__ import annotations

import json

from evaluation.arms import ARMS
from tests.coda.running import coda_here


def test_every_arm_is_listed_with_what_it_is() -> None:
    """In the registry's order; as JSON, names and descriptions."""
    done = coda_here("evaluate", "arms", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {arm.name: arm.description for arm in ARMS.values()}
    assert [line.split()[0] for line in coda_here("evaluate", "arms").stdout.splitlines()] == list(ARMS)
