"""Kill -9 of workers, tender, broker and database under load, while real devices' outboxes give samples and reports."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.load.cloud import FLEET, LoadedCloud
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.storage.ledger import Ledger
from cloud_broker.storage.place import Place
from coda.simulation.herd import Herd, Wave
from coda.simulation.profiles import made_up
from edge.config import EdgeConfig
from edge.errors import EdgeError
from edge.storage.store import Store
from edge.tunnel.link import Link
from edge.tunnel.session import Session
from protocol.batch_codec import encode_batch
from protocol.messages import Contribution, Report
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema
from tests.postgres import PostgresServer

_SAMPLES = 10  # of one contribution
_TRIES = 8
_TIMEOUT_S = 30.0
_BEFORE_KILL_S = 1.0
_WAVE_S = 4.0
_AWAY_S = 1.0
_SERVER, _BACKENDS = "postgresql", "postgresql's backends"


@dataclass
class Losses:
    """What kills cost; all but the first five are to be 0.

    Attributes:
        kills: Made.
        contributions: That a device was told are kept.
        reports: That a device was told are kept.
        questions: That simulated devices asked meanwhile.
        answered: Of these.
        lost_samples: Of kept contributions, neither in the pool nor in quarantine.
        repeated_samples: There more than once.
        lost_reports: Of kept ones.
        repeated_reports: There more than once.
        left_in_outboxes: Letters that were never accepted.
    """

    kills: int = 0
    contributions: int = 0
    reports: int = 0
    questions: int = 0
    answered: int = 0
    lost_samples: int = 0
    repeated_samples: int = 0
    lost_reports: int = 0
    repeated_reports: int = 0
    left_in_outboxes: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing was lost or repeated."""
        return not any(list(asdict(self).values())[5:])


class _Giver(threading.Thread):
    """One real device's link and outbox: gives a contribution and a report, and again once the cloud has both."""

    def __init__(self, cloud: LoadedCloud, folder: Path, number: int, schema: FeatureSchema) -> None:
        super().__init__(name=f"giver-{number}", daemon=True)
        self.device = f"giver-{number}"
        self.given = 0  # contributions, and as many reports, that the cloud said it has
        self.left = 0
        self.over = threading.Event()
        identity = cloud.authority.device(self.device)
        self._config = EdgeConfig(
            device=self.device, fleet=FLEET, host=cloud.host, port=cloud.port, ca_file=identity.ca_file,
            cert_file=identity.cert_file, key_file=identity.key_file, state_dir=folder / self.device,
        )  # fmt: skip
        self._schema, self._rng = schema, np.random.default_rng(number)

    def run(self) -> None:
        with Store(self._config.state_dir) as store, Link(self._config) as link:
            session = Session(link, store, lambda _event: None, _TIMEOUT_S)
            while not self.over.is_set() and not self.left:
                store.outbox.add(Contribution(encode_batch(self._batch())))
                store.outbox.add(Report(f"{self.device}-{self.given}", 1, {"number": self.given}))
                for _ in range(_TRIES):
                    with suppress(EdgeError):  # as its service does, it tries again what did not go through
                        session.deliver_outbox()
                    if not (pending := store.outbox.pending()):
                        break
                self.left = len(pending)
                self.given += not pending

    def _batch(self) -> SampleBatch:
        batch = made_up(self._schema, _SAMPLES, self._rng)
        time_s = np.arange(_SAMPLES, dtype=np.int64) + 1_000_000_000 + self.given * _SAMPLES
        label = (np.arange(_SAMPLES) % 2).astype(np.float32)
        return SampleBatch(self._schema, batch.features, label, time_s)


def kill_under_load(
    filled: Path, folder: Path, *, workers: int, devices: int, rate: float, rounds: int, givers: int,
    say: Callable[[str], None], server: PostgresServer | None = None,
) -> Losses:  # fmt: skip
    """Kill each worker, the tender and the broker in turn, ``rounds`` times, and count what was lost.

    Where the database is PostgreSQL, so are its server, with all its processes, and those that serve the cloud alone.

    Args:
        filled: What `benchmarks.load.cloud.fill` filled.
        folder: For everything.
        workers: How many.
        devices: Simulated devices that ask meanwhile.
        rate: Questions a second.
        rounds: How often each is killed.
        givers: Real outboxes that give meanwhile.
        say: Told how it goes.
        server: Where the cloud's database is to be; SQLite in its folder if there is none.
    """
    losses = Losses()
    with closing(SamplePool(filled / "pool")) as pool:
        schema = pool.schema
    with LoadedCloud(folder, filled, workers, server.create("cloud") if server else "") as cloud:
        giving = [_Giver(cloud, folder, number, schema) for number in range(givers)]
        for one in giving:
            one.start()
        victims = [name for name in sorted(cloud.parts()) for _ in range(rounds)] + ["broker"] * rounds
        victims += [_SERVER, _BACKENDS] * rounds if server else []
        for number, victim in enumerate(victims):
            with Herd(cloud.order(devices, 50, f"k{number}", seed=number), 1) as herd:
                herd.connect()
                herd.send(Wave(rate, _WAVE_S, _TIMEOUT_S if victim != "broker" else 1.0))
                time.sleep(_BEFORE_KILL_S)  # into the wave
                _kill(victim, cloud, server)
                found = herd.gather()
            losses.kills += 1
            losses.questions += found.asked
            losses.answered += len(found.at_once_s) + len(found.after_put_off_s)
            say(f"killed {victim}: {found.asked} asked, {found.lost} unanswered, {found.broken} connections ended")
        for one in giving:
            one.over.set()
        for one in giving:
            one.join()
    return _count(losses, cloud.place, giving)


def _kill(victim: str, cloud: LoadedCloud, server: PostgresServer | None) -> None:
    if server is None or victim not in (_SERVER, _BACKENDS):
        cloud.kill(victim)
    elif victim == _BACKENDS:
        server.kill_backends()
    else:
        server.kill()
        time.sleep(_AWAY_S)  # so that the cloud has to do without
        server.start()


def _count(losses: Losses, place: Place, giving: list[_Giver]) -> Losses:
    with closing(SamplePool(place.state_dir / "pool")) as pool, closing(Ledger(place)) as ledger:
        held: Counter[str] = Counter()
        for kept in pool.held():
            held[kept.contributor] += kept.samples
        for one in giving:
            number = pool.contributor_number(one.device)
            mine = np.flatnonzero(pool.contributors == number) if number is not None else np.zeros(0, np.int64)
            times = pool.take(mine).time_s
            rounds = [record["number"] for _, record in ledger.reports(one.device)]
            losses.contributions += one.given
            losses.reports += one.given
            losses.lost_samples += max(0, one.given * _SAMPLES - len(np.unique(times)) - held[one.device])
            losses.repeated_samples += len(times) - len(np.unique(times))
            losses.lost_reports += max(0, one.given - len(set(rounds)))
            losses.repeated_reports += len(rounds) - len(set(rounds))
            losses.left_in_outboxes += one.left
    return losses
