"""The files that make a board join its fleet by itself when it first boots."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from hardware.errors import ImageError, SeedError
from hardware.flash import cloudinit, firstboot, firstrun
from hardware.flash.fat import Fat
from hardware.flash.settings import Wifi

# What a host may be called (RFC 1123); a fleet allows more names than that.
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
BUNDLE = f"{firstboot.FOLDER}/bundle"


def check_hostname(name: str) -> None:
    """See that a board can be called so.

    Raises:
        SeedError: If it cannot.
    """
    if not _HOSTNAME.fullmatch(name):
        raise SeedError(
            f"name {name[:80]!r}: a board's name is 1 to 63 of a-z, 0-9 and '-', a '-' neither first nor last, "
            "as a host's must be"
        )


class System(str, Enum):
    """How an image is told what to do on its first boot."""

    PI_FIRSTRUN = "pi-firstrun"
    PI_CLOUD_INIT = "pi-cloud-init"
    UBUNTU = "ubuntu"


@dataclass(frozen=True)
class Seed:
    """What one board gets.

    Attributes:
        hostname: Its name in the network, and in the fleet.
        device_toml: Its configuration.
        token: Its one-time enrolment token.
        instance_id: Tells cloud-init that this is a board it has not set up before; another for every card.
        user: Who may log in.
        ssh_keys: By these keys.
        wifi: The network it joins.
        bundle: What it installs, from its name in the bundle to the file; empty to install from a package index.
        root: Whose releases of the software it takes: the root of trust; None for nobody's.
    """

    hostname: str
    device_toml: bytes
    token: str = field(repr=False)
    instance_id: str
    user: str = "maintainer"
    ssh_keys: tuple[str, ...] = ()
    wifi: Wifi | None = None
    bundle: Mapping[str, Path] = field(default_factory=dict)
    root: bytes | None = None

    def __post_init__(self) -> None:
        check_hostname(self.hostname)

    def board_files(self) -> dict[str, bytes | Path]:
        """What every kind of system gets: the folder ``coda``."""
        folder = firstboot.FOLDER
        files: dict[str, bytes | Path] = {
            f"{folder}/device.toml": self.device_toml,
            f"{folder}/token": self.token.encode() + b"\n",
            f"{folder}/first-boot.sh": firstboot.SCRIPT.encode(),
            f"{folder}/{firstboot.SETUP_UNIT_NAME}": firstboot.SETUP_UNIT.encode(),
            f"{folder}/{firstboot.SERVICE_UNIT_NAME}": firstboot.SERVICE_UNIT.encode(),
        }
        if self.root is not None:
            files[f"{folder}/{firstboot.ROOT_NAME}"] = self.root
        return files | {f"{BUNDLE}/{name}": path for name, path in self.bundle.items()}

    def files(self, system: System, fat: Fat) -> dict[str, bytes | Path]:
        """All files for the boot partition of an image of that kind.

        Raises:
            ImageError: If the image lacks what its kind has.
        """
        files = self.board_files()
        if system is System.PI_FIRSTRUN:
            files["firstrun.sh"] = firstrun.script(self.hostname, self.user, self.ssh_keys, self.wifi).encode()
            files["cmdline.txt"] = firstrun.cmdline(fat.read("cmdline.txt"))
            return files
        files["user-data"] = cloudinit.user_data(self.hostname, self.user, self.ssh_keys)
        files["meta-data"] = cloudinit.meta_data(self.instance_id)
        files["network-config"] = cloudinit.network_config(self.wifi)
        if system is System.PI_CLOUD_INIT:
            files["cmdline.txt"] = cloudinit.cmdline(fat.read("cmdline.txt"), self.instance_id)
        return files


def detect(fat: Fat) -> System:
    """Which kind of system a boot partition belongs to, by the files that its publisher put there.

    Raises:
        ImageError: If it is none that can be seeded.
    """
    names = fat.names()
    if {"user-data", "meta-data"} <= names:
        # Raspberry Pi OS states its build in issue.txt; Ubuntu has no such file.
        return System.PI_CLOUD_INIT if "issue.txt" in names else System.UBUNTU
    if {"cmdline.txt", "config.txt"} <= names:
        return System.PI_FIRSTRUN
    raise ImageError("the boot partition is neither Raspberry Pi OS's nor Ubuntu's; for a Jetson: coda flash jetson")


def bundle_files(path: Path) -> dict[str, Path]:
    """The files of a bundle: those in a folder, or one archive (``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.xz``).

    Raises:
        SeedError: If there is none, or it holds no wheel.
    """
    if path.is_dir():
        files = {one.relative_to(path).as_posix(): one for one in sorted(path.rglob("*")) if one.is_file()}
        if not any(name.endswith(".whl") for name in files):
            raise SeedError(f"bundle {path}: holds no wheel")
        return files
    if path.is_file() and path.name.endswith((".tar", ".tar.gz", ".tgz", ".tar.xz")):
        return {path.name: path}
    raise SeedError(f"bundle {path}: neither a folder of wheels nor a .tar, .tar.gz, .tgz or .tar.xz")
