"""Updates of a real device process from a real cloud over a real Mosquitto: every bad one ends on the old version."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cloud_broker.releases import repository as release_repository
from cloud_broker.releases.repository import ReleaseRepository
from edge.round.report import software_version
from protocol.releases import FAILED, INSTALLED, REFUSED, ROLLED_BACK, pack_metadata, unpack_metadata
from tests.coda.running import settled
from tests.end_to_end.boards import RECIPE, Board, Yard, board, first_round, reported, yard

__all__ = ["board", "yard"]  # fixtures

pytestmark = pytest.mark.broker

CRASHES_AT_START = {
    "edge/service.py": ("        self._config = config\n", "        raise SystemExit('this release is broken')\n")
}
CRASHES_AT_IMPORT = {"edge/storage/store.py": ("import fcntl\n", "import no_such_module\n")}
RANKS_NAN = {
    "edge/learning/model.py": (
        'return self._chunked(self._infer, features)["logit"]',
        'return self._chunked(self._infer, features)["logit"] * np.float32("nan")',
    )
}


def _stranger(yard: Yard, name: str) -> bytes:
    """Metadata of somebody else's keys, for the same bundle."""
    other = ReleaseRepository.create(yard.folder / "stranger", yard.folder / "stranger-keys")
    other.add(yard.folder / name, version="9.9.9")
    other.publish()
    return other.metadata()


def _altered(metadata: bytes) -> bytes:
    """Metadata whose timestamp says another version than was signed."""
    files = unpack_metadata(metadata)
    said = json.loads(files["timestamp.json"])
    said["signed"]["version"] += 1
    return pack_metadata({**files, "timestamp.json": json.dumps(said).encode()})


def test_every_bad_release_ends_on_the_old_version(
    cloud: Any, board: Callable[..., Board], yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other on one board: the flashed version runs after each, and the cloud is told why.

    Then a good one is installed, and an older one refused.
    """
    one = board("update-bad")

    def offered(name: str, outcome: str, why: str, metadata: bytes | None = None) -> None:
        said = reported(one, yard, yard.offer(name, metadata))
        assert (said["outcome"], why in said["reason"]) == (outcome, True), said
        assert said["running"] == software_version()
        assert one.running() == Path(sys.prefix).name
        assert one.folder.current() is None

    with cloud(RECIPE) as service:
        first_round(one)
        old = yard.repository.metadata()
        crashing = yard.release("0.2.0", CRASHES_AT_START)
        offered(crashing, ROLLED_BACK, "this release is broken")
        settled(lambda: service.events[-1]["event"] == "rollout-halted")  # told after it is noted
        assert one.starts == 3  # the flashed one, and as often as a release on trial is started
        offered(crashing, REFUSED, "it failed here before")
        offered(yard.release("0.2.1", CRASHES_AT_IMPORT), FAILED, "no_such_module")
        offered(yard.release("0.2.2", RANKS_NAN), ROLLED_BACK, "ranks with scores that are no numbers")
        good = yard.release("0.3.0")
        offered(good, REFUSED, "not signed by the keys that are trusted", _stranger(yard, good))
        offered(good, REFUSED, "not signed by the keys that are trusted", _altered(yard.repository.metadata()))
        offered(good, REFUSED, "older than what this device has seen, a replay", old)
        with monkeypatch.context() as patch:
            patch.setitem(release_repository.LIFETIMES, "timestamp", timedelta(days=-1))
            yard.repository.publish()
        offered(good, REFUSED, "expired")
        yard.repository.publish()
        starts, said = one.starts, reported(one, yard, yard.offer(good))
        assert (said["outcome"], said["running"], one.starts) == (INSTALLED, "0.3.0", starts)
        parts = ("candidates as the release before did", "trained one step", "reached the broker")
        assert all(part in said["reason"] for part in parts)
        replayed = reported(one, yard, yard.offer(crashing))
        assert replayed["outcome"] == REFUSED
        assert "is not newer than release 4, which proved itself here" in replayed["reason"]
        assert one.running() == one.folder.current()
