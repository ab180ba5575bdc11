"""`coda release`: from the first key to a rollout that is halted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud_broker.errors import ReleaseError
from coda.cli import app


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a cloud's configuration and a bundle, in which commands are run."""
    monkeypatch.chdir(tmp_path)
    files = "".join(f'{name}_file = "{name}.pem"\n' for name in ("ca", "cert", "key"))
    (tmp_path / "cloud.toml").write_text(f'fleet = "f"\nhost = "localhost"\nport = 1\nstate_dir = "state"\n{files}')
    (tmp_path / "pi5.tar").write_bytes(b"wheels")
    return tmp_path


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["release", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_release_from_keys_to_rollout(here: Path) -> None:
    """Each step says what it did; no private key is printed; the status is as JSON what it is in words."""
    printed = _run("init")
    printed += _run("add", "pi5.tar", "--version", "0.2.0")
    assert "pi5.tar, release 1" in printed
    assert json.loads(_run("list", "--json"))["releases"]["pi5.tar"]["version"] == "0.2.0"
    assert "0.2.0" in _run("list")
    cloud = ("--config", "cloud.toml")
    assert "nothing was offered yet" in _run("status", *cloud)
    assert "rollout 1" in _run("offer", "pi5.tar", *cloud, "--percent", "10", "--device", "a", "--device", "b")
    assert "pi5.tar is on" in _run("status", *cloud)
    assert "is halted" in _run("halt", *cloud)
    told = json.loads(_run("status", "--json", *cloud))
    assert (told["rollout"], told["state"], told["reason"], told["devices"]) == (1, "halted", "halted by hand", {})
    assert "PRIVATE" not in printed
    assert "until" in _run("publish")
    assert (here / "releases" / "metadata" / "1.root.json").exists()


def test_a_key_is_replaced_by_a_threshold_of_root_keys(here: Path) -> None:
    """One signature is not enough, two are; then everything is signed again."""
    _run("init", "--root-keys", "3", "--threshold", "2")
    assert "waits for the signatures" in _run("root", "--replace", "timestamp")
    assert "1 signatures: more needed" in _run("sign", "--key", "release-keys/root-1.key")
    assert "root 2 counts from now on" in _run("sign", "--key", "release-keys/root-2.key")
    assert "timestamp" in _run("publish")
    assert (here / "releases" / "metadata" / "2.root.json").exists()


@pytest.mark.usefixtures("here")
def test_what_is_not_there_is_said() -> None:
    """No releases, no such release, nothing offered: each names what to do."""
    with pytest.raises(ReleaseError, match="coda release init"):
        _run("add", "pi5.tar", "--version", "1")
    _run("init")
    with pytest.raises(ReleaseError, match="coda release list"):
        _run("offer", "pi9.tar", "--config", "cloud.toml")
    with pytest.raises(ReleaseError, match="no release was offered"):
        _run("halt", "--config", "cloud.toml")
