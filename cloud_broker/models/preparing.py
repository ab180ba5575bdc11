"""Jobs apart from serving: training and publishing a model, and what is embedded before anything can be served."""

from __future__ import annotations

from typing import Any

from cloud_broker.config import CloudConfig
from cloud_broker.matching.options import MatchOptions
from cloud_broker.matching.versions import Versions
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.storage.stages import LIVE
from cloud_broker.telling import OnEvent


def published_model(pool: SamplePool, registry: Registry, config: CloudConfig, tell: OnEvent) -> PublishedModel:
    """The live model, if it fits the pool; trained and published now if not.

    Raises:
        TrainingError, ConverterError, StorageError: As `publish`.
    """
    latest = registry.latest()
    if latest is not None and latest.schema == pool.schema:
        return latest
    return publish(pool, registry, config, tell)


def publish(
    pool: SamplePool, registry: Registry, config: CloudConfig, tell: OnEvent, stage: str = LIVE
) -> PublishedModel:
    """Train on the pool and publish what comes of it; the pool is embedded with it later, see `Versions.prepare`.

    Args:
        pool: What to train on.
        registry: Where to publish.
        config: How to make models.
        tell: Told ``training`` after every epoch, ``converted`` for each model, and ``published``.
        stage: What the model becomes, live or a candidate.

    Raises:
        TrainingError: If the pool is too small to train on.
        ConverterError: If a trained model cannot be converted.
        StorageError: If the disk fails.
    """
    # Training needs TensorFlow, serving does not.
    from cloud_broker.models.publish import publish_models  # noqa: PLC0415

    model = publish_models(pool, registry, config.models, tell, stage=stage)
    tell({"event": "published", **summary(model)})
    return model


def open_versions(pool: SamplePool, registry: Registry, tell: OnEvent, options: MatchOptions | None = None) -> Versions:
    """The pool as each model sees it; ``tell`` is told ``embedding`` where nothing can be served without.

    Raises:
        StorageError: If no model is published for such a pool, or one's file is not a recommender.
    """
    return Versions(
        pool, registry, options, lambda done, total: tell({"event": "embedding", "done": done, "total": total})
    )


def summary(model: PublishedModel) -> dict[str, Any]:
    """What events tell of a model."""
    return {
        "model_version": model.version,
        "recommender_sha256": model.recommender.sha256,
        "recommender_bytes": model.recommender.size_bytes,
        "classifier_sha256": model.classifier.sha256,
        "classifier_bytes": model.classifier.size_bytes,
    }
