"""The cloud as one process: opens its state, trains if nothing is published, leaves the tasks, and serves."""

from __future__ import annotations

import logging
import threading
from contextlib import closing

from cloud_broker.config import CloudConfig
from cloud_broker.files import serve_alone
from cloud_broker.models.preparing import open_versions, published_model
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.state import POOL, open_state
from cloud_broker.telling import OnEvent, StoppedEarlyError, Telling
from cloud_broker.workers.serving import serve
from cloud_broker.workers.upkeep import upkeep

logger = logging.getLogger(__name__)


class CloudService:
    """One cloud worker that also holds the pool."""

    def __init__(self, config: CloudConfig, on_event: OnEvent | None = None) -> None:
        """Prepare a service.

        Args:
            config: What to serve, and through which broker.
            on_event: Told, in order: ``training`` after every epoch, ``converted`` for each model and ``published`` (if
                nothing was published before), ``embedding`` (if nothing was embedded before), ``serving``; then what
                `Handlers` and `upkeep` tell, and ``taken-up`` when a newer model is served; ``stopped`` last. Called
                from several threads, one at a time.
        """
        self._config = config
        self._tell = Telling(on_event)

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set.

        Raises:
            CertificateError: If the worker's certificate cannot be used; told before anything is trained.
            StorageError: If the state cannot be used or is served already, or there is no pool to serve.
            UnavailableError: If the database is away.
            TrainingError: If the pool is too small to train on.
            ConverterError: If a trained model cannot be converted.
            ConnectionFailedError: If the broker is not there or does not let us in.
        """
        config = self._config
        config.identity.check()
        pool_at = config.state_dir / POOL
        with (
            serve_alone(config.state_dir),
            open_state(config.place) as state,
            closing(SamplePool(pool_at, options=config.pool)) as pool,
        ):
            try:
                published_model(pool, state.registry, config, self._tell.unless(stop))
                versions = open_versions(pool, state.registry, self._tell.unless(stop), config.matching)
            except StoppedEarlyError:
                logger.info("stopped before serving")
            else:
                with upkeep(versions, self._tell):
                    serve(config, state, versions, stop=stop, tell=self._tell)
        self._tell({"event": "stopped"})
