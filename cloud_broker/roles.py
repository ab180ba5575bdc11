"""The parts of a cloud of several processes, each run by one of them: the keeper, a worker, a job."""

from __future__ import annotations

import threading
from contextlib import closing

from cloud_broker.config import CloudConfig
from cloud_broker.errors import StorageError
from cloud_broker.keeper import Keeper
from cloud_broker.keeper_client import KeptIndex
from cloud_broker.pool import SamplePool
from cloud_broker.preparing import open_index, publish, published_model, summary
from cloud_broker.registry import Registry
from cloud_broker.serving import serve
from cloud_broker.state import POOL, open_state
from cloud_broker.telling import OnEvent, Telling


def keep(config: CloudConfig, stop: threading.Event, on_event: OnEvent) -> None:
    """Hold the pool and its index for the workers, until ``stop`` is set.

    Args:
        config: The cloud's.
        stop: When to end.
        on_event: Told ``embedding``, and ``keeping`` once workers may ask.

    Raises:
        StorageError: If the state cannot be used, or no model is published.
    """
    tell = Telling(on_event)
    directory = config.state_dir
    with closing(SamplePool(directory / POOL)) as pool, closing(Registry(directory)) as registry:
        model = registry.latest()
        if model is None:
            raise StorageError(f"no model is published in {directory}: make one with `coda cloud train`")
        index = open_index(pool, registry, model, tell.unless(stop))
        with Keeper(directory, index):
            tell({"event": "keeping", "pool": len(index), **summary(model)})
            stop.wait()


def work(config: CloudConfig, number: int, stop: threading.Event, on_event: OnEvent) -> None:
    """Answer devices as one of several workers, until ``stop`` is set; the keeper must be there.

    Args:
        config: The cloud's.
        number: Which worker this is, from 1.
        stop: When to drain and end.
        on_event: Told as `serve` says.

    Raises:
        ConfigError: If there is no certificate for that worker.
        UnavailableError: If there is no keeper.
        CertificateError, StorageError, ConnectionFailedError: As `CloudService.run`.
    """
    mine = config.of_worker(number)
    mine.identity.check()
    with open_state(mine.state_dir) as state:
        model = state.registry.latest()
        if model is None:
            raise StorageError(f"no model is published in {mine.state_dir}: make one with `coda cloud train`")
        index = KeptIndex(mine.state_dir, state.registry.row_file(model))
        serve(mine, state, index, model, stop=stop, tell=Telling(on_event), number=number, of_several=True)


def train(config: CloudConfig, stop: threading.Event, on_event: OnEvent, *, again: bool) -> None:
    """Train on the pool and publish, as a job of its own; a cloud that serves several workers takes the model up.

    Args:
        config: The cloud's.
        stop: When to give up.
        on_event: Told ``training``, ``converted``, ``published``.
        again: Whether to train where a model is published already.

    Raises:
        TrainingError, ConverterError, StorageError: As `publish`.
    """
    tell = Telling(on_event).unless(stop)
    with closing(SamplePool(config.state_dir / POOL)) as pool, closing(Registry(config.state_dir)) as registry:
        (publish if again else published_model)(pool, registry, config, tell)
