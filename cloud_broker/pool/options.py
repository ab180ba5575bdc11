"""What the pool keeps, and what it takes from devices only after somebody has looked: all options of the pool."""

from __future__ import annotations

from dataclasses import dataclass, fields

from cloud_broker.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """Bounds of retention, and of the guards against poisoning; a table ``[pool]`` in a cloud's configuration.

    Contributions go whole: that with the oldest samples first.

    Attributes:
        max_samples: In all; 10 million of MovieLens take 2.3 GB of disk and as much page cache.
        max_samples_per_contributor: Of one contributor; of a contribution that is larger, the latest samples are kept.
        max_age_days: A contribution goes when its latest sample is older; 0 keeps them. Off by default, because samples
            that are imported carry the times of their events, which may be years ago.
        max_samples_per_day: Of one contributor; what it gives beyond is quarantined.
        label_rate_tolerance: How far the share of likes among a contributor's samples may lie from the pool's.
        unknown_item_share: Share of a contribution's samples that may be of items that nobody else has.
        one_item_share: Share of a contribution's samples that may be of one item.
        future_days: How far ahead of the cloud's clock a sample's time may be.
        judged_from_samples: A contributor with fewer samples is not judged by its shares.
        judging_from_samples: A pool with fewer samples judges nobody by its own.

    Raises:
        ConfigError: If a value is out of bounds.
    """

    max_samples: int = 20_000_000
    max_samples_per_contributor: int = 20_000
    max_age_days: float = 0.0
    max_samples_per_day: int = 5_000
    label_rate_tolerance: float = 0.5
    unknown_item_share: float = 0.5
    one_item_share: float = 0.5
    future_days: float = 1.0
    judged_from_samples: int = 20
    judging_from_samples: int = 1_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.type == "float" else 1
            if not value >= least:
                raise ConfigError(f"pool: {field.name} must be at least {least}, got {value}")
        for name in ("label_rate_tolerance", "unknown_item_share", "one_item_share"):
            if getattr(self, name) > 1:
                raise ConfigError(f"pool: {name} is a share and at most 1, got {getattr(self, name)}")
