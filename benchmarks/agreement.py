"""What matching by agreement costs beside matching by profile: python -m benchmarks.agreement.

Made-up samples: contributors of 200 each, items with a long tail as in MovieLens, random vectors of 32 columns that are
searched exactly. Devices say of 100 of a contributor's own items, one in ten turned round, what they like. Both
matchers answer the same queries in turn, so that the ratio tells what opinions add.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from cloud_broker.matching.agreement import AgreementMatcher
from cloud_broker.matching.matcher import Matcher, PoolView
from cloud_broker.matching.opinions import Opinions
from cloud_broker.matching.options import MatchOptions
from cloud_broker.matching.profile_matching import ProfileMatcher
from protocol.messages import Query
from protocol.opinions import pack_opinions

SIZES = (100_000, 1_000_000, 5_000_000)
_EACH, _ITEMS, _WIDTH, _SAID = 200, 10_000, 32, 100
_OPTIONS = MatchOptions(matcher="agreement")


def pool(samples: int, rng: np.random.Generator) -> PoolView:
    """A pool of so many samples, without its table of opinions."""
    owners = np.repeat(np.arange(1, samples // _EACH + 1, dtype=np.int32), _EACH)
    items = (rng.zipf(1.3, samples) % (_ITEMS - 1) + 1).astype(np.int32)
    opens = np.unique(owners.astype(np.int64) * _ITEMS + items) % _ITEMS
    return PoolView(
        rng.normal(size=(samples, _WIDTH)).astype(np.float32),
        owners,
        np.arange(samples, dtype=np.int64),
        items=items,
        labels=rng.integers(0, 2, samples).astype(np.float32),
        sharers=np.bincount(opens, minlength=_ITEMS).astype(np.int32),
    )


def queries(view: PoolView, count: int, rng: np.random.Generator) -> list[Query]:
    """Devices that resemble a contributor: its opinions, some of them turned round, and one centroid."""
    assert view.items is not None
    assert view.labels is not None
    asked = []
    for _ in range(count):
        rows = np.flatnonzero(view.contributors == rng.integers(1, len(view) // _EACH))[:_SAID]
        labels = np.where(rng.random(len(rows)) < 0.1, 1 - view.labels[rows], view.labels[rows]).astype(np.float32)
        raw = rng.normal(size=_WIDTH).astype("<f2").tobytes()
        asked.append(
            Query(
                "q", 1, "0" * 64, _WIDTH, raw, (1.0,), 1000, 1 << 20, opinions=pack_opinions(view.items[rows], labels)
            )
        )
    return asked


def _timed_ms(act: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    act()
    return 1e3 * (time.perf_counter() - began_s)


def _median_ms(matcher: Matcher, asked: list[Query]) -> float:
    return median(_timed_ms(lambda query=query: matcher.rank(query, None)) for query in asked)  # type: ignore[misc]


def main() -> None:
    """Print a table, a row for each size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--samples", type=int, nargs="*", default=SIZES)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    table = Table("samples", "table s", "by profile ms", "by agreement ms", "ratio", box=box.MARKDOWN)
    for samples in options.samples:
        rng = np.random.default_rng(options.seed)
        view = pool(samples, rng)
        asked = queries(view, options.queries, rng)
        began_s = time.perf_counter()
        opinions = Opinions(np.asarray(view.items), view.contributors)
        built_s = time.perf_counter() - began_s
        matchers = ProfileMatcher(view, _OPTIONS), AgreementMatcher(replace(view, opinions=opinions), _OPTIONS)
        profile_ms, agreement_ms = (_median_ms(matcher, asked) for matcher in matchers)
        ratio = agreement_ms / profile_ms
        table.add_row(f"{samples:,}", f"{built_s:.2f}", f"{profile_ms:.1f}", f"{agreement_ms:.1f}", f"{ratio:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
