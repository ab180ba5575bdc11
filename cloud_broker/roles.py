"""The parts of a cloud of several processes, each run by one of them: the tender, a worker, a job."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from cloud_broker.config import CloudConfig
from cloud_broker.errors import StorageError
from cloud_broker.pool import SamplePool
from cloud_broker.preparing import open_index, publish, published_model, summary
from cloud_broker.registry import PublishedModel, Registry
from cloud_broker.serving import serve
from cloud_broker.state import POOL, open_state
from cloud_broker.telling import OnEvent, Telling
from cloud_broker.upkeep import upkeep

_LOOK_S = 5.0  # how often to see whether a newer model was published


def look_after(config: CloudConfig, stop: threading.Event, on_event: OnEvent) -> None:
    """Tend the pool, and embed it for each model that is published, while workers serve; until ``stop`` is set.

    Args:
        config: The cloud's.
        stop: When to end.
        on_event: Told ``embedding``, and ``tending`` with the model's version whenever workers may take that model up.

    Raises:
        StorageError: If the state cannot be used, or no model is published.
    """
    tell = Telling(on_event)
    with _pool(config) as pool, closing(Registry(config.state_dir)) as registry:
        while not stop.is_set():
            model = _latest(registry, config)
            index = open_index(pool, registry, model, tell.unless(stop), config.matching)
            with upkeep(index):
                tell({"event": "tending", "pool": len(index), **summary(model)})
                while not stop.wait(_LOOK_S) and _latest(registry, config).version == model.version:
                    pass


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
    with open_state(mine.state_dir) as state, _pool(mine) as pool:
        model = _latest(state.registry, mine)
        index = open_index(pool, state.registry, model, tell.unless(stop), mine.matching)
        serve(mine, state, index, model, stop=stop, tell=tell, number=number, of_several=True)


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
    with _pool(config) as pool, closing(Registry(config.state_dir)) as registry:
        (publish if again else published_model)(pool, registry, config, tell)


def _latest(registry: Registry, config: CloudConfig) -> PublishedModel:
    model = registry.latest()
    if model is None:
        raise StorageError(f"no model is published in {config.state_dir}: make one with `coda cloud train`")
    return model


@contextmanager
def _pool(config: CloudConfig) -> Iterator[SamplePool]:
    with closing(SamplePool(config.state_dir / POOL, options=config.pool)) as pool:
        yield pool
