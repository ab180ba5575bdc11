"""Makes a Debian arm64 root with the device's real aarch64 wheels for QEMU user emulation: no chroot, no binfmt.

``python -m tests.hardware.arm64_root FOLDER``; needs debootstrap (as root), dpkg and qemu-user-static. What is there is
kept.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

_SUITE, _MIRROR, _PYTHON = "bookworm", "http://deb.debian.org/debian", "3.11"
_PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_27_aarch64", "manylinux_2_34_aarch64")
# The device's own dependencies; numpy 1 because tflite-runtime needs it. pyserial is for meters only.
_WHEELS = ("tflite-runtime==2.14.0", "numpy<2", "paho-mqtt>=2.1,<3", "msgpack>=1.0.8,<2", "zstandard>=0.22,<1")
_TOOLS = {"debootstrap": "debootstrap", "dpkg": "dpkg", "qemu-aarch64-static": "qemu-user-static"}


def missing_tools() -> list[str]:
    """Debian packages that are needed and not installed."""
    path = "/usr/local/sbin:/usr/sbin:/sbin"
    return [package for tool, package in _TOOLS.items() if not (shutil.which(tool) or shutil.which(tool, path=path))]


def build(folder: Path) -> None:
    """Make root and wheels under ``folder``, unless they are there.

    Raises:
        SystemExit: If a tool is missing; the message says how to install it.
    """
    missing = missing_tools()
    if missing:
        raise SystemExit(f"missing: {' '.join(missing)}; install with: apt-get install -y {' '.join(missing)}")
    root, site = folder / "root", folder / "site"
    if not (folder / ".ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _unpack_debian(root)
        _unpack_wheels(site)
        (folder / ".ready").touch()


def python_command(folder: Path) -> list[str]:
    """How to run the emulated Python; give it PYTHONPATH with `site_folder` in front."""
    return ["qemu-aarch64-static", "-L", str(folder / "root"), str(folder / f"root/usr/bin/python{_PYTHON}")]


def site_folder(folder: Path) -> Path:
    """Where the aarch64 wheels lie."""
    return folder / "site"


def _unpack_debian(root: Path) -> None:
    """The first stage of debootstrap, then every package unpacked: nothing of the foreign system is run."""
    first_stage = ["debootstrap", "--arch=arm64", "--foreign", "--variant=minbase", "--include=python3"]
    subprocess.run([*first_stage, _SUITE, str(root), _MIRROR], check=True, stdout=subprocess.DEVNULL)
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)


def _unpack_wheels(site: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", _PYTHON.replace(".", "")]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *_WHEELS], check=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder.resolve())


if __name__ == "__main__":
    main()
