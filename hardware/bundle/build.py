"""From a checkout to a bundle: our own wheel, the locked ones, trimmed, with their bill of materials, in one file."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardware.bundle import lock, pip
from hardware.bundle.archive import epoch_s, write_tar
from hardware.bundle.boards import Target
from hardware.bundle.sbom import bill_of_materials
from hardware.bundle.trim import trim
from hardware.bundle.wheel import Wheel, find
from hardware.errors import BundleError

FORMAT = 1
REQUIREMENTS, DESCRIPTION, BILL = "requirements.txt", "bundle.json", "sbom.cdx.json"
# The checkout that this module lies in; a device has none, and builds nothing.
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Built:
    """A bundle that was written.

    Attributes:
        path: The archive; its bill of materials lies beside it, too.
        sha256: Of the archive.
        archive_bytes: Its size.
        installed_bytes: Of the files on a board, without bytecode.
        bytecode_bytes: Of what pip compiles beside them; as large as this computer's Python makes it.
        wheels: How many are installed.
    """

    path: Path
    sha256: str
    archive_bytes: int
    installed_bytes: int
    bytecode_bytes: int
    wheels: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "path": str(self.path)}


@contextmanager
def own_wheel(checkout: Path = CHECKOUT) -> Iterator[Wheel]:
    """CoDA Edge's wheel, built from a checkout into a folder that is gone afterwards.

    Raises:
        BundleError: If there is no checkout, or building fails.
    """
    if not (checkout / "pyproject.toml").is_file():
        raise BundleError(f"{checkout}: no checkout of CoDA Edge; bundles are built from one")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch_s())}
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["no output"]
            raise BundleError(f"{checkout}: the wheel was not built: {said[-1]}")
        yield find([Wheel(path) for path in Path(folder).glob("*.whl")], "coda-edge")


def build(target: Target, own: Wheel, out: Path, *, locks: Path = lock.LOCKS, indexes: Sequence[str] = ()) -> Built:
    """Write a bundle into a folder. The same checkout, lock and tools give the same bytes.

    Args:
        target: What it is for.
        own: CoDA Edge's wheel.
        out: The folder; made where it is missing.
        locks: Where the locks lie.
        indexes: Package indexes besides those that pip is set up with.

    Raises:
        BundleError: If a wheel is missing or another than was locked, or the lock is older than our requirements.
    """
    pins = lock.load(target, own, locks)
    with tempfile.TemporaryDirectory() as scratch:
        downloads, trimmed = Path(scratch) / "downloads", Path(scratch) / "trimmed"
        downloads.mkdir()
        trimmed.mkdir()
        asked = Path(scratch) / REQUIREMENTS
        asked.write_text(lock.requirements(pins, target.name))
        pip.download(target, ["--no-deps", "--require-hashes", "-r", asked], downloads, indexes=indexes)
        found = [Wheel(path) for path in sorted(downloads.glob("*.whl"))]
        wheels = [trim(wheel, trimmed) for wheel in found]
        published = {wheel.name: wheel.sha256 for wheel in found}
        out.mkdir(parents=True, exist_ok=True)
        return _pack(target, own, wheels, published, out / f"{own.name}-{own.version}-{target.name}.tar")


def _pack(target: Target, own: Wheel, wheels: Sequence[Wheel], published: dict[str, str], path: Path) -> Built:
    installed = [own, *(wheel for wheel in wheels if wheel.name != lock.INSTALLER)]
    sizes = [wheel.installed_bytes() for wheel in installed]
    files_bytes, bytecode_bytes = (sum(column) for column in zip(*sizes, strict=True))
    bill = bill_of_materials(target, own, wheels, published)
    description = {
        "format": FORMAT,
        "version": own.version,
        "target": target.name,
        **{name: getattr(target, name) for name in ("system", "python", "machine")},
        "glibc": f"2.{target.glibc_minor}",
        "installed_bytes": files_bytes,
    }
    write_tar(
        path,
        {
            REQUIREMENTS: lock.requirements([lock.Pin.of(wheel) for wheel in installed], target.name).encode(),
            DESCRIPTION: (json.dumps(description, indent=2, sort_keys=True) + "\n").encode(),
            BILL: bill.encode(),
            **{wheel.path.name: wheel.path for wheel in (own, *wheels)},
        },
    )
    path.with_suffix(".cdx.json").write_text(bill)
    sha256, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
    return Built(path, sha256, size, files_bytes, bytecode_bytes, len(installed))
