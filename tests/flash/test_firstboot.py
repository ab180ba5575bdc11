"""What a seeded board does on its first boot, run by a real shell.

Users and systemd are emulated by small programs that come first in PATH; joining talks to a real enrolment service.
"""

from __future__ import annotations

import ensurepip
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_broker.membership.enrolment import EnrolmentServer
from cloud_broker.membership.fleet import Fleet, new_token
from edge.config import load_config
from edge.tunnel.enrolment import config_text, starting_config
from hardware.flash.firstboot import ROOT_NAME
from hardware.flash.seed import Seed, bundle_files
from tests.ports import free_port

_EMULATED = {
    # Gives its command the state's folder, and takes the options that the script names.
    "systemd-run": """
while :; do case $1 in --*) shift ;; *) break ;; esac; done
mkdir -p -m 700 "$CODA_HOME"; umask 077
exec "$@\"""",
    "systemctl": 'echo "$*" >> "$CODA_LOG"',
}


@dataclass(frozen=True)
class Board:
    """An emulated board: where its boot partition, its programs and its state are."""

    folder: Path

    def plug_in(self, seed: Seed) -> None:
        """Put a seed onto the boot partition."""
        for name, content in seed.board_files().items():
            path = self.folder / "boot" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read_bytes() if isinstance(content, Path) else content)

    def boot(self) -> subprocess.CompletedProcess[str]:
        """Run the script as its unit does."""
        for name, script in _EMULATED.items():
            program = self.folder / "emulated" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        (self.folder / "units").mkdir(exist_ok=True)
        paths = f"{self.folder / 'emulated'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": paths, "PIP_NO_INDEX": "1"}
        for name in ("home", "prefix", "units", "log"):
            environment[f"CODA_{name.upper()}"] = str(self.folder / name)
        script = str(self.folder / "boot/coda/first-boot.sh")
        return subprocess.run(["sh", script], env=environment, capture_output=True, text=True, timeout=120, check=False)

    def asked_of_systemd(self) -> list[str]:
        """What `systemctl` was called with."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []


def test_a_board_joins_when_the_network_is_there(tmp_path: Path) -> None:
    """Tried again until it works, with the same token; then the token is gone, and the service enabled."""
    fleet, port = tmp_path / "fleet", free_port()
    Fleet.create(fleet, Fleet("home", "localhost", 8883, port))
    token = new_token(fleet, "pi-1", 60.0)
    text = config_text({**starting_config(token), "contribute": True, "updates": {"root": ROOT_NAME}})
    board = Board(tmp_path)
    board.plug_in(Seed(hostname="pi-1", device_toml=text, token=token.to_text(), instance_id="i", root=b"{}"))
    (tmp_path / "prefix/bin").mkdir(parents=True)
    (tmp_path / "prefix/.installed").touch()
    (tmp_path / "prefix/bin/coda").symlink_to(Path(sys.executable).parent / "coda")
    early = board.boot()
    assert early.returncode != 0
    assert (tmp_path / "boot/coda/token").exists()
    assert board.asked_of_systemd() == []
    with EnrolmentServer(fleet, "127.0.0.1", port, ("localhost",)):
        done = board.boot()
        assert done.returncode == 0, done.stderr
    assert load_config(tmp_path / "home/device.toml").contribute is True
    assert load_config(tmp_path / "home/device.toml").updates.root == tmp_path / "home/root.json"
    assert (tmp_path / "home/root.json").read_bytes() == b"{}"
    assert (tmp_path / "home/identity.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "home/device.toml").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "boot/coda/token").exists()
    assert (tmp_path / "units/coda-edge.service").exists()
    calls = ["daemon-reload", "enable --now coda-edge.service", "disable coda-first-boot.service"]
    assert board.asked_of_systemd() == calls
    assert token.to_text() not in done.stdout + done.stderr + early.stderr
    assert board.boot().returncode == 0, "once more is harmless"


def _wheel(folder: Path, name: str, version: str, files: Mapping[str, str], extra: str) -> Path:
    """A wheel of a stand-in package, made by hand: the format is a ZIP with a list of its files."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n{extra}"
    contents = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ncoda = stand_in:main\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in contents.items():
            archive.writestr(file, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*contents, f"{info}/RECORD"]))
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_board_installs_from_its_bundle_alone(tmp_path: Path, packed: bool) -> None:
    """By pip's own wheel from the bundle, without an index; where there are hashes they hold.

    The wheel is a stand-in whose `coda edge enroll -` writes what it reads: what is tried here is the installing.
    """
    pip = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"), None)
    if pip is None:
        pytest.skip("this Python has no wheel of pip")
    wheels = tmp_path / "bundle"
    wheels.mkdir()
    (wheels / pip.name).write_bytes(pip.read_bytes())
    code = "import sys\nfrom pathlib import Path\n"
    code += "def main():\n    Path(sys.argv[-1], 'identity.pem').write_text(sys.stdin.read())\n"
    wheel = _wheel(wheels, "coda_edge", "0.1.0", {"stand_in.py": code}, "Provides-Extra: edge\n")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if packed:
        (wheels / "requirements.txt").write_text(f"coda-edge[edge]==0.1.0 --hash=sha256:{digest}\n")
        archive = tmp_path / "bundle.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(wheels, "pi5")
        bundle = bundle_files(archive)
    else:
        bundle = bundle_files(wheels)
    board = Board(tmp_path)
    seed = Seed(hostname="pi-1", device_toml=b"", token="a token", instance_id="i", bundle=bundle)
    board.plug_in(seed)
    done = board.boot()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home/identity.pem").read_text() == "a token\n"
    assert not (tmp_path / "prefix.bundle").exists()


def test_a_bundle_that_was_tampered_with_is_not_installed(tmp_path: Path) -> None:
    """A wheel whose hash is another than the lock's: nothing is installed, nothing joins."""
    pip = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"), None)
    if pip is None:
        pytest.skip("this Python has no wheel of pip")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / pip.name).write_bytes(pip.read_bytes())
    _wheel(tmp_path / "bundle", "coda_edge", "0.1.0", {"stand_in.py": ""}, "Provides-Extra: edge\n")
    lock = f"coda-edge[edge]==0.1.0 --hash=sha256:{'0' * 64}\n"
    (tmp_path / "bundle/requirements.txt").write_text(lock)
    board = Board(tmp_path)
    bundle = bundle_files(tmp_path / "bundle")
    board.plug_in(Seed(hostname="pi-1", device_toml=b"", token="t", instance_id="i", bundle=bundle))
    done = board.boot()
    assert done.returncode != 0
    assert "DO NOT MATCH" in done.stderr
    assert not (tmp_path / "prefix/.installed").exists()
    assert not (tmp_path / "home/identity.pem").exists()
