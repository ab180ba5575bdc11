"""Is one share above another, or above a bound? Evidence that may be looked at after every report.

The evidence against "not above" is a test martingale: under the hypothesis its chance of ever reaching 1 / alpha, at
whatever moment one looks, is at most alpha (Ville's inequality), for two devices as for a million. It is the likelihood
ratio of a mixture of all shares, Jeffreys' Beta(1/2, 1/2), against the likeliest share that the hypothesis allows
(Robbins, 1970; over a hypothesis of many shares as Wasserman, Ramdas and Balakrishnan, 2020).

Each device counts once and devices are taken to be independent of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_PRIOR = 0.5


@dataclass(frozen=True)
class Share:
    """So many of so many.

    Attributes:
        hits: Devices of which it is true.
        of: Devices that said anything.

    Raises:
        ValueError: If there are more hits than devices, or fewer than none.
    """

    hits: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.of:
            raise ValueError(f"{self.hits} of {self.of}: a share has 0 to all")

    @property
    def value(self) -> float | None:
        """The share; None of none."""
        return self.hits / self.of if self.of else None

    def __str__(self) -> str:
        return f"{self.hits} of {self.of}" + (f" ({self.hits / self.of:.0%})" if self.of else "")


def is_above(share: Share, bound: float, alpha: float) -> bool:
    """Whether the true share is above ``bound``; wrong with a chance of at most ``alpha``, however often one looks.

    Args:
        share: What was seen.
        bound: 0 to 1.
        alpha: Above 0, below 1.
    """
    if share.value is None or share.value <= bound:
        return False
    return _log_mixture(share) - _log_likelihood(share, bound) >= -math.log(alpha)


def has_risen(share: Share, other: Share, alpha: float) -> bool:
    """Whether the true share is above the other's; wrong with a chance of at most ``alpha``, however often one looks.

    Two tests share the chance: of both shares against the likeliest that is the same for both, which sees more where
    the other's devices are few; and against an upper bound of the other's share, which sees more where they are many.

    Args:
        share: What was seen.
        other: What it is compared with; also only seen, and as uncertain as it is small.
        alpha: Above 0, below 1.
    """
    if share.value is None or other.value is None or share.value <= other.value:
        return False
    pooled = (share.hits + other.hits) / (share.of + other.of)
    ratio = sum(_log_mixture(one) - _log_likelihood(one, pooled) for one in (share, other))
    return ratio >= -math.log(alpha / 2) or is_above(share, upper_bound(other, alpha / 4), alpha / 4)


def upper_bound(share: Share, alpha: float) -> float:
    """What the true share is not above; wrong with a chance of at most ``alpha``, however often one looks."""
    low, high = share.value or 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        ruled_out = _log_mixture(share) - _log_likelihood(share, middle) >= -math.log(alpha)
        low, high = (low, middle) if ruled_out else (middle, high)
    return high


def _log_mixture(share: Share) -> float:
    return _log_beta(share.hits + _PRIOR, share.of - share.hits + _PRIOR) - _log_beta(_PRIOR, _PRIOR)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_likelihood(share: Share, chance: float) -> float:
    pairs = ((share.hits, chance), (share.of - share.hits, 1 - chance))
    if any(count and not p for count, p in pairs):
        return -math.inf
    return sum(count * math.log(p) for count, p in pairs if count)
