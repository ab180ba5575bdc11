"""The pool benchmark's own parts: what its figures mean, on a pool small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pool import asking, measuring, synthetic, tables
from cloud_broker.pool.sample_pool import Given, SamplePool
from tests.cloud_broker.samples import user_samples


def test_a_cost_that_doubles_with_size_has_the_exponent_one() -> None:
    """Exponents are those of the power law through the figures; what has one figure alone has none."""
    results = [{"samples": size, "disk_bytes": 3 * size, "p50_ms": size**0.5} for size in (10**5, 10**6, 10**7)]
    names = ("exact_ms", "restart_s", "forget_s", "index_s", "anonymous_bytes")
    fitted = tables.exponents([{**dict.fromkeys(names), **result} for result in results])
    assert fitted == {"disk_bytes": pytest.approx(1.0), "p50_ms": pytest.approx(0.5)}


def test_the_first_questions_only_warm_up() -> None:
    """Times of the first ones count for nothing; recall is told as mean, of 95 in 100, and least."""
    slow = np.full(asking.WARM_UP, 9.0)
    ours, bare, equal = (np.concatenate([slow, np.full(50, value)]) for value in (0.003, 0.002, 0.004))
    asked = asking.summary("form", ours, np.stack([bare, equal], axis=1), np.linspace(0.8, 1.0, 101))
    assert (asked.equal_p50_ms, asked.equal_ratio) == pytest.approx((4, 0.75))
    assert (asked.p50_ms, asked.p99_ms, asked.bare_p50_ms, asked.ratio) == pytest.approx((3, 3, 2, 1.5))
    assert (asked.recall, asked.recall_p5, asked.recall_least) == pytest.approx((0.9, 0.81, 0.8))


def test_synthetic_vectors_are_asked_beside_bare_faiss(tmp_path: Path) -> None:
    """The engine finds most within the window, and both it and bare faiss took time."""
    asked = synthetic.ask_clusters(1_500, tmp_path)
    assert asked.recall >= 0.9
    assert min(asked.p50_ms, asked.bare_p50_ms, asked.ratio, asked.equal_p50_ms) > 0


def test_a_pool_is_filled_once(tmp_path: Path) -> None:
    """What a pool took in is told again when it is there already, and nothing is added to it."""
    gifts = (Given(f"user-{user}", user_samples(user, 20), f"m-{user}") for user in range(200))
    schema = user_samples(0, 1).schema
    first = measuring.fill(tmp_path / "pool", schema, gifts, 500)
    assert measuring.fill(tmp_path / "pool", schema, gifts, 500) == first
    pool = SamplePool(tmp_path / "pool")
    assert len(pool) == first[0] >= 500
    pool.close()


def test_tables_have_a_row_for_each_form_of_question() -> None:
    """Figures of two forms at one size are two rows."""
    asked = asking.summary("8 centroids", np.full(60, 0.003), np.full((60, 2), 0.002), np.ones(60))
    assert tables.queries([{"samples": 1000, "queries": [asked, asked]}]).row_count == 2
