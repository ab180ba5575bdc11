"""An operator's desk, emulated: a computer whose disks are sparse files, a card in it, a fleet and an image."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_broker.membership.fleet import Fleet, members
from tests.coda.running import coda_here
from tests.flash.images import MIB, TRIXIE, Image, build
from tests.flash.trees import system, usb_card

_CARD_BYTES = 64 * MIB
PASSPHRASE = "a passphrase of the workshop"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJtJ me@desk"
FLEET_TOML = f"""\
fleet = "fleet"
[device]
contribute = true
[wifi]
ssid = "workshop"
country = "DE"
passphrase_file = "wifi.passphrase"
[user]
ssh_keys = ["{KEY}"]
"""


@dataclass(frozen=True)
class Desk:
    """A computer with a card in it, a fleet, and its settings."""

    root: Path
    card: Path
    config: Path
    fleet: Path

    def flash(self, image: Path, *more: str) -> subprocess.CompletedProcess[str]:
        """Run `coda flash` for the card."""
        fixed = ("--device", "/dev/sdz", "--root", str(self.root), "--config", str(self.config), "--name", "pi-1")
        return coda_here("flash", "--image", str(image), *fixed, "--receipt", str(self.root / "receipt.json"), *more)

    def invited(self) -> set[str]:
        """For whom a token waits."""
        return {member.name for member in members(self.fleet) if member.state == "invited"}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A 64 MiB card that holds an older system."""
    root = system(tmp_path / "computer")
    card = usb_card(root, _CARD_BYTES)
    Fleet.create(tmp_path / "fleet", Fleet("home", "server.local"))
    secret = tmp_path / "wifi.passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    config = tmp_path / "FLEET.toml"
    config.write_text(FLEET_TOML)
    return Desk(root, card, config, tmp_path / "fleet")


@pytest.fixture(scope="session")
def trixie(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """An image of 52 MiB, with its publisher's digest beside it."""
    image = build(tmp_path_factory.mktemp("trixie") / "os.img", TRIXIE)
    digest = hashlib.sha256(image.path.read_bytes()).hexdigest()
    image.path.with_name("os.img.sha256").write_text(f"{digest}  os.img\n")
    return image
