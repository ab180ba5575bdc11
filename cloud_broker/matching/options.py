"""How matched samples are chosen, and what must not leave the pool: the matching's options, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_broker.errors import ConfigError

AGREEMENT = "agreement"
MATCHERS = ("profile", "random", AGREEMENT)


@dataclass(frozen=True, kw_only=True)
class MatchOptions:
    """Options of a cloud's matching; a table ``[matching]`` in its configuration.

    Attributes:
        matcher: ``profile``; ``agreement``: by opinions of shared items where both sides allow it, else by profile; or
            ``random``: the control that any matcher has to beat.
        k_anonymity: No sample leaves the pool unless so many contributors have samples of its item. 5 is the least cell
            that statistical offices commonly publish; 1 lets everything out. On ml-latest-small 5 holds back one
            sample in ten, all of items that hardly anybody rated.
        window_days: Samples of events longer ago stay in the pool and are not matched; 0 matches all.
        near_duplicate_similarity: Of samples of the same item and label whose vectors' cosine is at least this, the
            nearest one alone is sent; 1 sends all whose features are not equal throughout. Off by default: where many
            contributors say the same of an item, their number is evidence too, and what dropping it does to
            personalised models was not measured.
        min_label_share: Each label has at least this share of the samples sent, where the pool has that many near.
        exact_below: Pools with fewer samples are searched exactly, larger ones by an inverted file: of 50,000 samples
            it takes two seconds to make, and a question with eight centroids a third of what exact search takes.
        recall: What an inverted file has to find of the nearest; how far it looks is chosen by measuring it.
        keep_models: So many models' vectors are kept at most, the newest one's among them, so that devices that do not
            have the newest yet are answered too. A model takes 4 bytes a sample and dimension, with its inverted file
            twice that; a contribution is embedded for each.
        keep_models_days: A model's vectors are kept no longer than this after the next was published.
        milvus_uri: A Milvus server (``http://host:19530``) to search instead of this process; empty for none.

    Raises:
        ConfigError: If a value is out of bounds.
    """

    matcher: str = "profile"
    k_anonymity: int = 5
    window_days: float = 0.0
    near_duplicate_similarity: float = 1.0
    min_label_share: float = 0.0
    exact_below: int = 50_000
    recall: float = 0.99
    keep_models: int = 2
    keep_models_days: float = 7.0
    milvus_uri: str = ""

    def __post_init__(self) -> None:
        if self.matcher not in MATCHERS:
            raise ConfigError(f"matching: matcher must be one of {', '.join(MATCHERS)}, got {self.matcher!r}")
        if self.k_anonymity < 1 or self.exact_below < 1:
            raise ConfigError("matching: k_anonymity and exact_below must be at least 1")
        if self.keep_models < 1:
            raise ConfigError(f"matching: keep_models counts the newest model too, got {self.keep_models}")
        for name in ("window_days", "keep_models_days"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"matching: {name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.near_duplicate_similarity <= 1 or not 0 < self.recall < 1:
            raise ConfigError("matching: near_duplicate_similarity and recall must lie between 0 and 1")
        if not 0 <= self.min_label_share <= 0.5:
            raise ConfigError(f"matching: min_label_share must lie in 0..0.5, got {self.min_label_share}")


PLAIN = MatchOptions(k_anonymity=1)
"""Nothing held back but equal samples: for those who ask of a pool that is theirs, such as an evaluation."""
