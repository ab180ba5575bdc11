"""The parts of a cloud of several processes, each run by one of them: the tender, a worker, a job."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from cloud_broker.config import CloudConfig
from cloud_broker.models.preparing import open_versions, publish, published_model, summary
from cloud_broker.models.registry import Registry
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.state import POOL, open_state
from cloud_broker.storage.stages import LIVE
from cloud_broker.telling import OnEvent, Telling
from cloud_broker.workers.serving import serve
from cloud_broker.workers.upkeep import upkeep


def look_after(config: CloudConfig, stop: threading.Event, on_event: OnEvent) -> None:
    """Tend the pool, and embed it for each model that is published, while workers serve; until ``stop`` is set.

    Args:
        config: The cloud's.
        stop: When to end.
        on_event: Told ``tending`` once workers may begin, and what `upkeep` tells.

    Raises:
        StorageError: If the state cannot be used, or no model is published.
    """
    tell = Telling(on_event)
    with _pool(config) as pool, closing(Registry(config.place)) as registry:
        versions = open_versions(pool, registry, tell.unless(stop), config.matching)
        with upkeep(versions, tell):
            tell({"event": "tending", "pool": len(versions), **summary(versions.model)})
            stop.wait()


def work(config: CloudConfig, number: int, stop: threading.Event, on_event: OnEvent) -> None:
    """Answer devices as one of several workers, until ``stop`` is set.

    Args:
        config: The cloud's.
        number: Which worker this is, from 1.
        stop: When to drain and end.
        on_event: Told as `serve` says.

    Raises:
        ConfigError: If there is no certificate for that worker.
        CertificateError, StorageError, ConnectionFailedError: As `CloudService.run`.
    """
    mine, tell = config.of_worker(number), Telling(on_event)
    mine.identity.check()
    with open_state(mine.place) as state, _pool(mine) as pool:
        versions = open_versions(pool, state.registry, tell.unless(stop), mine.matching)
        # What there is now stays for good: to look through it for garbage stops all threads for 0.2 s each time.
        gc.collect()
        gc.freeze()
        serve(mine, state, versions, stop=stop, tell=tell, number=number, of_several=True)


def train(config: CloudConfig, stop: threading.Event, on_event: OnEvent, *, again: bool, stage: str = LIVE) -> None:
    """Train on the pool and publish, as a job of its own; a cloud that serves meanwhile takes the model up.

    Args:
        config: The cloud's.
        stop: When to give up.
        on_event: Told ``training``, ``converted``, ``published``.
        again: Whether to train where a model is published already.
        stage: What the model becomes, live or a candidate.

    Raises:
        TrainingError, ConverterError, StorageError: As `publish`.
    """
    tell = Telling(on_event).unless(stop)
    with _pool(config) as pool, closing(Registry(config.place)) as registry:
        if again:
            publish(pool, registry, config, tell, stage)
        else:
            published_model(pool, registry, config, tell)


@contextmanager
def _pool(config: CloudConfig) -> Iterator[SamplePool]:
    with closing(SamplePool(config.state_dir / POOL, options=config.pool)) as pool:
        yield pool
