"""Which published models are served side by side."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_broker.matching import derived
from cloud_broker.matching.options import MatchOptions
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.pool.guards import DAY_S
from cloud_broker.pool.sample_pool import SamplePool

_LOOK_BACK = 16  # models before the newest, among which one is ready that is served until the newest is


@dataclass(frozen=True)
class KeptModels:
    """Models that fit the pool and are to be served.

    Attributes:
        given: The live one, then those before it that are kept; devices are given the first that is ready.
        canary: A few devices ask by it, the rest are not given it; None if there is none.
    """

    given: tuple[PublishedModel, ...]
    canary: PublishedModel | None

    @property
    def all(self) -> tuple[PublishedModel, ...]:
        """The canary behind the others."""
        return self.given if self.canary is None else (*self.given, self.canary)


def kept_models(registry: Registry, pool: SamplePool, options: MatchOptions, now_s: float) -> KeptModels:
    """By the options' number and days; of those before the live one, the last that is ready stays until another is.

    Args:
        registry: All models.
        pool: What they have to fit.
        options: How many are kept, and how long.
        now_s: Unix seconds.
    """
    since_s = now_s - options.keep_models_days * DAY_S
    history = registry.history(max(options.keep_models, _LOOK_BACK))
    fitting = [(model, ended_s) for model, ended_s in history if model.schema == pool.schema]
    kept = [
        model
        for model, ended_s in fitting[: options.keep_models]
        if ended_s is None or ended_s > since_s or model is fitting[0][0]
    ]
    if not any(is_ready(pool, model) for model in kept):
        kept += [model for model, _ in fitting[len(kept) :] if is_ready(pool, model)][:1]
    canary = registry.canary()
    beside = canary if canary is not None and canary.schema == pool.schema and canary not in kept else None
    return KeptModels(tuple(kept), beside)


def is_ready(pool: SamplePool, model: PublishedModel) -> bool:
    """Whether the pool is embedded and indexed for a model."""
    return derived.is_ready(pool.directory, model.recommender.sha256)
