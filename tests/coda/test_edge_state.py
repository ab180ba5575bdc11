"""`coda edge outbox` and `coda edge data`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coda.cli import app
from coda.errors import UsageError
from edge.storage.store import Store
from profiling.network import NetworkBytes
from protocol.messages import Contribution, Report
from protocol.purposes import MODEL


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A device with two letters and some bytes behind it."""
    with Store(tmp_path / "state") as store:
        store.outbox.add(Report("r1", 1, {"phases": [1, 2]}))
        store.outbox.add(Contribution(bytes(1000)))
        store.data_use.add({MODEL: NetworkBytes(1, 20, 3, 40, 5, 60)}, "r1")
    path = tmp_path / "device.toml"
    files = "".join(f'{name}_file = "{name}.pem"\n' for name in ("ca", "cert", "key"))
    path.write_text(
        f'device = "d"\nfleet = "f"\nhost = "localhost"\nport = 1\nstate_dir = "state"\n{files}'
        "data_budget_bytes_per_month = 1000\n"
    )
    return path


def _run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["edge", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_tells_what_waits(config: Path) -> None:
    """Kinds, sizes and the bound, beside a process that holds the store."""
    with Store(config.parent / "state"):
        found = json.loads(_run("outbox", "list", "--config", config, "--json"))
        words = _run("outbox", "list", "--config", config)
    assert [letter["kind"] for letter in found["letters"]] == ["report", "contribution"]
    assert found["losses"] == []
    assert f"2 waiting: {found['size_bytes']} of at most {32 << 20} bytes" in words


def test_show_tells_what_a_letter_says(config: Path) -> None:
    """Samples are not printed, only how many bytes they are."""
    letters = json.loads(_run("outbox", "list", "--config", config, "--json"))["letters"]
    report, contribution = (
        json.loads(_run("outbox", "show", letter["message_id"][:10], "--config", config)) for letter in letters
    )
    assert report["says"]["record"] == {"phases": [1, 2]}
    assert contribution["says"] == {"samples": "1000 bytes", "agreement": None}


def test_show_of_an_unknown_id_is_a_wrong_use(config: Path) -> None:
    """It names the command that lists ids."""
    with pytest.raises(UsageError, match="coda edge outbox list"):
        _run("outbox", "show", "nothing", "--config", config)


def test_data_tells_days_and_purposes_and_the_budget(config: Path) -> None:
    """In words and as JSON."""
    found = json.loads(_run("data", "--config", config, "--json"))
    assert found["this_month"] == {"used_bytes": 65, "budget_bytes": 1000, "left_bytes": 935}
    assert [(day["purpose"], day["tcp_down"]) for day in found["days"]] == [("model", 60)]
    assert "65 bytes both ways, TLS included; 935 of 1000 left" in _run("data", "--config", config)


def test_a_device_that_never_ran_has_nothing_to_show(config: Path) -> None:
    """And none of these commands makes anything."""
    config.write_text(config.read_text().replace('"state"', '"elsewhere"'))
    for arguments in (("data",), ("outbox", "list")):
        with pytest.raises(UsageError, match="has not run"):
            _run(*arguments, "--config", config)
    assert not (config.parent / "elsewhere").exists()
