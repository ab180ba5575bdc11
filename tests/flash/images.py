"""Images as publishers make them, small and sparse: a partition table by sfdisk, FAT by mkfs.vfat, ext4 by mke2fs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
TOOLS = ("sfdisk", "mkfs.vfat", "fsck.vfat", "mke2fs", "e2fsck", "debugfs", "mcopy", "mdir", "mtype")
MIB = 1 << 20
BOOT_AT = 4 * MIB  # as in Raspberry Pi OS: sector 8192
CMDLINE = "console=serial0,115200 console=tty1 root=PARTUUID=35684e8a-02 rootfstype=ext4 fsck.repair=yes rootwait quiet"


@dataclass(frozen=True)
class Image:
    """An image and where its parts are, in bytes."""

    path: Path
    boot_bytes: int
    root_at: int
    root_bytes: int


def tool(name: str, *arguments: str, given: bytes = b"") -> bytes:
    """Run one of `TOOLS`; a test that needs a missing one is skipped."""
    program = shutil.which(name, path=_PATH)
    if program is None:
        pytest.skip(f"{name} is not installed; `make test` installs it")
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.run([program, *arguments], input=given, capture_output=True, check=True, env=environment).stdout


BOOKWORM = {"cmdline.txt": CMDLINE, "config.txt": "arm_64bit=1", "issue.txt": "Raspberry Pi reference 2025-05-13"}
TRIXIE = {
    **BOOKWORM,
    "cmdline.txt": CMDLINE + " ds=nocloud;i=rpios-image",
    "issue.txt": "Raspberry Pi reference 2025-12-04",
    "user-data": "#cloud-config\n",
    "meta-data": "instance_id: rpios-image\n",
    "network-config": "network: {version: 2}\n",
}
UBUNTU = {
    "cmdline.txt": CMDLINE,
    "config.txt": "arm_64bit=1",
    "user-data": "#cloud-config\n",
    "meta-data": "instance_id: cloud-image\n",
    "network-config": "network: {version: 2}\n",
}


def build(
    path: Path, boot_files: dict[str, str], *, boot_bytes: int = 40 * MIB, root_bytes: int = 8 * MIB, fat: int = 32
) -> Image:
    """Make an image with a FAT boot partition, and an ext4 root partition that holds one file."""
    root_at = BOOT_AT + boot_bytes
    with path.open("wb") as file:
        file.truncate(root_at + root_bytes)
    table = f"label: dos\nlabel-id: 0x35684e8a\nstart={BOOT_AT // 512}, size={boot_bytes // 512}, type=c\n"
    table += f"start={root_at // 512}, size={root_bytes // 512}, type=83\n"
    tool("sfdisk", "--quiet", str(path), given=table.encode())
    boot, root, content = path.with_suffix(".boot"), path.with_suffix(".root"), path.with_suffix(".content")
    boot.unlink(missing_ok=True)
    tool("mkfs.vfat", "-F", str(fat), "-n", "BOOTFS", "-C", str(boot), str(boot_bytes // 1024))
    for name, text in boot_files.items():
        tool("mcopy", "-i", str(boot), "-", f"::{name}", given=text.encode() + b"\n")
    (content / "etc").mkdir(parents=True)
    (content / "etc/hostname").write_text("raspberrypi\n")
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(content), str(root), f"{root_bytes // 1024}k")
    with path.open("r+b") as file:
        for at, part in ((BOOT_AT, boot), (root_at, root)):
            _copy_sparse(part.read_bytes(), at, file.fileno())
            part.unlink()
    shutil.rmtree(content)
    return Image(path, boot_bytes, root_at, root_bytes)


def _copy_sparse(data: bytes, at: int, handle: int) -> None:
    for start in range(0, len(data), 4096):
        block = data[start : start + 4096]
        if any(block):
            os.pwrite(handle, block, at + start)


def partition(path: Path, at: int, size: int, out: Path) -> Path:
    """Cut a partition out of a disk, for tools that take no offset."""
    with path.open("rb") as file:
        file.seek(at)
        out.write_bytes(file.read(size))
    return out


def partitions(path: Path) -> list[tuple[int, int]]:
    """Start and size in bytes, as sfdisk reads them."""
    table = json.loads(tool("sfdisk", "--json", str(path)))["partitiontable"]
    return [(entry["start"] * 512, entry["size"] * 512) for entry in table["partitions"]]
