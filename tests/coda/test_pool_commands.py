"""`coda cloud pool`: tables in and out, quarantine, and forgetting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cloud_broker.pool.options import PoolOptions
from cloud_broker.pool.sample_pool import SamplePool
from coda.cli import app
from protocol.samples import SampleBatch
from tests.cloud_broker.samples import SCHEMA, user_samples


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a cloud's configuration and no pool, in which commands are run."""
    monkeypatch.chdir(tmp_path)
    files = "".join(f'{name}_file = "{name}.pem"\n' for name in ("ca", "cert", "key"))
    (tmp_path / "cloud.toml").write_text(
        f'fleet = "f"\nhost = "localhost"\nport = 1\nstate_dir = "state"\n{files}[pool]\njudging_from_samples = 30\n'
    )
    (tmp_path / "features.json").write_text(json.dumps(SCHEMA.to_dict()))
    return tmp_path


def _run(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["cloud", "pool", *arguments, "--config", "cloud.toml"], catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.output


def test_from_a_table_to_a_pool_and_back(here: Path) -> None:
    """A new pool takes a table in, tells what it holds, writes it again, and forgets a contributor."""
    source = SamplePool(here / "source", SCHEMA)
    source.add("ann", user_samples(1), "m1")
    source.add("bob", user_samples(2), "m1")
    from cloud_broker.pool.tables import export_pool

    export_pool(source, here / "samples.csv")
    with (here / "samples.csv").open("a") as file:
        file.write("cid,999,,,,1,5\n")
    printed = _run("import", "samples.csv", "--schema", "features.json", "--errors", "refused.csv")
    assert "41 rows: 40 samples are new in the pool, 1 rows cannot be used" in printed
    assert "item: ids are whole numbers" in (here / "refused.csv").read_text()
    told = json.loads(_run("list", "--json"))
    assert (told["samples"], told["contributors"], told["features"]) == (40, 2, SCHEMA.to_dict()["features"])
    assert "20 samples of ann are deleted" in _run("forget", "ann")
    assert "20 samples are in pool.parquet" in _run("export", "pool.parquet")
    assert "contributors               1" in _run("list")


def test_what_is_held_back_is_listed_and_released(here: Path) -> None:
    """The reason is told; a released contribution is in the pool, a dropped one is gone."""
    pool = SamplePool(here / "state" / "pool", SCHEMA, PoolOptions(judging_from_samples=30))
    for user in range(5):
        pool.add(f"user-{user}", user_samples(user), "m1")
    for number in (7, 8):
        batch = user_samples(9, 30, seed=number)
        pool.contribute("dev", SampleBatch(SCHEMA, batch.features, np.ones(30, np.float32), batch.time_s), f"m{number}")
    one, other = json.loads(_run("quarantine", "--json"))
    assert one["reason"].startswith("label rate: 1.00")
    left = _run("quarantine", "--release", str(one["number"]))
    assert "30 samples are in the pool now" in left
    assert "nothing is held back" in _run("quarantine", "--drop", str(other["number"]))
    assert json.loads(_run("list", "--json"))["samples"] == 130
