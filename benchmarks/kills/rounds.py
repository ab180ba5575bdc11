"""Full rounds in which the device, the cloud or the broker is killed at random moments."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from benchmarks.kills.fleet import Fleet
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.storage.ledger import Ledger
from edge.config import load_config
from edge.storage.store import Store
from tests.edge.samples import samples

RECIPE = {"steps": 300, "learning_rate": 0.2, "classifier_steps": 200, "match_samples": 300}
SAMPLES, BATCHES = 100, 4
MAX_DEVICE_KILLS = 4  # a phase that ends with its process five times is given up, rightly
_WHO = ("device", "cloud", "broker")
_END_TIMEOUT_S = 180.0


@dataclass
class Tally:
    """What rounds under fire came to. All but the first three are to be 0.

    Attributes:
        kills: Kills.
        rounds: Rounds.
        samples: Samples that devices contributed.
        lost_samples: Of these, not in the pool.
        repeated_samples: In the pool more than once.
        missing_reports: Rounds of which the cloud has no report.
        repeated_reports: Reports beyond one a round.
        wrong_hashes: Files, on either side, that are not what their name says.
        unfinished: Rounds that did not end well.
    """

    kills: int = 0
    rounds: int = 0
    samples: int = 0
    lost_samples: int = 0
    repeated_samples: int = 0
    missing_reports: int = 0
    repeated_reports: int = 0
    wrong_hashes: int = 0
    unfinished: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, repeated or damaged."""
        return not any(getattr(self, f.name) for f in fields(self)[3:])


def rounds_under_fire(fleet: Fleet, points: int, seed: int, *, kills_a_round: int = 6) -> Tally:
    """Run rounds, each of a new device, until ``points`` kills were made, and count.

    Args:
        fleet: Running, asked for `RECIPE`.
        points: Kills.
        seed: Of the moments and of who is killed.
        kills_a_round: At most so many in one round.
    """
    rng, tally, names = random.Random(seed), Tally(), list[str]()
    while tally.kills < points:
        names.append(f"device-{seed}-{len(names)}")
        config = fleet.device(names[-1], contribute=True)
        _give_samples(config, seed=seed * 1000 + len(names))
        tally.kills += _one_round(fleet, config, rng, min(kills_a_round, points - tally.kills))
        tally.rounds += 1
    for name in names:
        tally = tally + _count(fleet, name)
    tally.wrong_hashes += sum(_wrong(path) for path in (fleet.cloud_dir / "blobs").glob("*/*"))
    return tally


def _give_samples(config: Path, seed: int) -> None:
    batch, size = samples(SAMPLES, seed=seed), SAMPLES // BATCHES
    with Store(load_config(config).state_dir) as store:
        for begin in range(0, SAMPLES, size):
            store.samples.add(batch.take(slice(begin, begin + size)))


def _one_round(fleet: Fleet, config: Path, rng: random.Random, most: int) -> int:
    kills, device_kills, device = 0, 0, _start(config)
    while kills < most:
        time.sleep(rng.uniform(0.02, 1.2))  # the moment of the kill is what is drawn here
        if device.poll() is not None:
            break
        who = rng.choice(_WHO if device_kills < MAX_DEVICE_KILLS else _WHO[1:])
        if who == "device":
            device.kill()
            device.wait()
            device = _start(config)
            device_kills += 1
        else:
            fleet.restart(who)
        kills += 1
    for _ in range(3):  # one that gave up for now, such as after a long silence, is started again, as a service is
        if device.wait(_END_TIMEOUT_S) == 0:
            break
        device = _start(config)
    return kills


def _start(config: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edge", "--config", str(config), "--once", "--json"]
    with (config.parent / "log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _count(fleet: Fleet, name: str) -> Tally:
    with closing(SamplePool(fleet.cloud_dir / "pool")) as pool:
        number = pool.contributor_number(name)
        mine = np.flatnonzero(pool.contributors == number) if number is not None else np.zeros(0, np.int64)
        times = pool.take(mine).time_s
    with closing(Ledger(fleet.cloud_dir)) as ledger:
        decisions = [record["outcome"]["decision"] for _, record in ledger.reports(name)]
    with Store(fleet.folder / name / "state") as store:
        left, ended = len(store.outbox.pending()), store.rounds.unfinished() is None
        files = [store.blobs.path(sha256) for sha256 in store.blobs.whole()]
    return Tally(
        samples=SAMPLES,
        lost_samples=SAMPLES - len(np.unique(times)),
        repeated_samples=len(times) - len(np.unique(times)),
        missing_reports=int(not decisions),
        repeated_reports=max(0, len(decisions) - 1),
        wrong_hashes=sum(_wrong(path) for path in files),
        unfinished=int(left > 0 or not ended or decisions[:1] not in (["activated"], ["kept-h0"])),
    )


def _wrong(path: Path) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() != path.name
