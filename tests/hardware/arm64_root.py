"""Makes a Debian arm64 root with the device's real aarch64 wheels for QEMU user emulation: no chroot, no binfmt.

``python -m tests.hardware.arm64_root FOLDER``; needs debootstrap (as root), dpkg and qemu-user-static. What is there is
kept.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
from pathlib import Path

_SUITE, _MIRROR, _PYTHON = "bookworm", "http://deb.debian.org/debian", "3.11"
_PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_27_aarch64", "manylinux_2_34_aarch64")
# The device's own dependencies; numpy 1 because tflite-runtime needs it. pyserial is for meters only.
_WHEELS = ("tflite-runtime==2.14.0", "numpy<2", "paho-mqtt>=2.1,<3", "msgpack>=1.0.8,<2", "zstandard>=0.22,<1")
# What a Raspberry Pi 4 says of itself. Programs under emulation read these files in place of the host's; a runtime that
# looks for an ARM processor's cores in the list of an x86 one crashes.
_PROCESSOR, _CORES = "cortex-a72", 4
_CORE = """\
processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
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
    _write(root / "proc/cpuinfo", "".join(_CORE.format(number=number) for number in range(_CORES)))
    # Newer kernels say which processor is really there; ours always does, so that what runs knows it is emulated.
    _write(root / "proc/sys/kernel/arch", f"{platform.machine()}\n")


def python_command(folder: Path) -> list[str]:
    """How to run the emulated Python; give it PYTHONPATH with `site_folder` in front."""
    return [*emulator_command(folder), str(folder / f"root/usr/bin/python{_PYTHON}")]


def emulator_command(folder: Path) -> list[str]:
    """How to run any program of the emulated board."""
    return ["qemu-aarch64-static", "-cpu", _PROCESSOR, "-L", str(folder / "root")]


def site_folder(folder: Path) -> Path:
    """Where the aarch64 wheels lie."""
    return folder / "site"


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:  # the root may be another user's, and right already
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _unpack_debian(root: Path) -> None:
    """The first stage of debootstrap, then every package unpacked: nothing of the foreign system is run."""
    first_stage = ["debootstrap", "--arch=arm64", "--foreign", "--variant=minbase", "--include=python3"]
    subprocess.run([*first_stage, _SUITE, str(root), _MIRROR], check=True, stdout=subprocess.DEVNULL)
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)


def _unpack_wheels(site: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", _PYTHON.replace(".", "")]
    command += [f"--platform={tag}" for tag in _PLATFORMS]
    subprocess.run([*command, *_WHEELS], check=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder.resolve())


if __name__ == "__main__":
    main()
