"""Power cuts in the middle of an update: a version that runs is there after each, and what was begun is finished."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from edge.scheduling.known_time import Belief
from protocol.releases import INSTALLED, INTERRUPTED, ROLLED_BACK
from tests.end_to_end.boards import RECIPE, Board, Yard, board, first_round, reported, yard
from tests.end_to_end.conftest import Device

__all__ = ["board", "yard"]  # fixtures

pytestmark = pytest.mark.broker

NEVER_CONNECTS = {
    "edge/updates/trial.py": (
        "                return self._tools.session.link.open(_TRY_S)\n",
        "                raise LinkError('no way out')\n",
    )
}
HANGS_ON_TRIAL = {"edge/updates/trial.py": ("        timer.start()\n", "        threading.Event().wait()\n")}


def test_a_cut_at_any_stage_ends_on_a_version_that_runs(cloud: Any, board: Callable[..., Board], yard: Yard) -> None:
    """SIGKILL while it downloads, installs and proves itself: the old version goes on, and what was begun is finished.

    Before, nothing is begun while the clock is not believed. A release that is always cut on trial is given up.
    """
    one = board("update-cut")
    believed = Belief(time.time() + 30 * 86400, 0.0, "an earlier boot")
    (one.device.config.state_dir / "time.json").write_text(json.dumps(asdict(believed)))
    with cloud(RECIPE):
        first_round(one)
        number = yard.offer(yard.release("0.2.0", filler_bytes=6 << 20))
        assert "is believed until NTP" in one.until_update("waits")["reasons"]["clock"]
        assert not (one.folder.path / "trust").exists()
        (one.device.config.state_dir / "time.json").unlink()
        one.cut_power()
        one.until(
            lambda event: event["event"] == "progress" and event["phase"] == "update" and event["total"] > 1 << 20
        )
        one.cut_power()
        assert "in the middle of its download" in one.until_update(INTERRUPTED)["reason"]
        one.until_update("install")
        assert one.running() == Path(sys.prefix).name
        one.cut_power()
        assert "in the middle of its install" in one.until_update(INTERRUPTED)["reason"]
        one.until_update("proving")
        one.cut_power()  # it is counted, and tried once more
        assert reported(one, yard, number)["outcome"] == INSTALLED
        one.until_update(INSTALLED)
        kept = one.folder.current()
        number = yard.offer(yard.release("0.3.0", HANGS_ON_TRIAL))
        for _ in range(2):
            one.until_update("proving")
            one.cut_power()
        said = reported(one, yard, number)
        assert (said["outcome"], said["running"]) == (ROLLED_BACK, "0.2.0")
        assert "started 2 times and ended, or was ended, before it had proved itself" in said["reason"]
        updates = replace(one.device.config.updates, trial_s=8.0)
        Device(replace(one.device.config, updates=updates))  # which writes its file, for the release that comes
        starts, said = one.starts, reported(one, yard, yard.offer(yard.release("0.4.0", NEVER_CONNECTS)))
        assert (said["outcome"], one.starts) == (ROLLED_BACK, starts)  # by itself, at the end of its time
        assert "did not prove itself within 8 s, while reaching the broker (no way out)" in said["reason"]
        assert one.running() == one.folder.current() == kept
