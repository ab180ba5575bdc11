"""`coda flash` where it must not write, or is ended or fails in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

from tests.coda.desk import FLEET_TOML, Desk, desk, trixie
from tests.coda.running import ENVIRONMENT, ROOT
from tests.flash.images import BOOT_AT, MIB, Image, partitions
from tests.flash.trees import SERIAL, mount, system, usb_card
from tests.hardware.trees import put

__all__ = ["desk", "trixie"]  # fixtures


def test_refusals_leave_the_card_as_it_was(desk: Desk, trixie: Image) -> None:
    """Wrong hash, no hash, no serial, wrong serial, another disk, a mounted card: one line, nothing written."""
    before = desk.card.read_bytes()
    yes = ("--write", "--serial", SERIAL)
    bare = trixie.path.with_name("bare.img")
    bare.write_bytes(trixie.path.read_bytes())
    cases = [
        (desk.flash(trixie.path, "--sha256", "0" * 64, *yes), 1, "expected 000000"),
        (desk.flash(trixie.path, "--sha256", "zz", *yes), 2, "64 hexadecimal digits"),
        (desk.flash(bare, *yes), 2, "--unchecked"),
        (desk.flash(trixie.path, "--write"), 1, "serial number was not typed"),
        (desk.flash(trixie.path, "--write", "--serial", "S4EWNX0"), 1, "not its serial number"),
        (desk.flash(trixie.path, "--device", "/dev/nvme0n1", *yes), 1, "this computer runs from it (/, /home)"),
        (desk.flash(trixie.path, "--device", "/dev/sdz1", *yes), 1, "name the disk"),
        (desk.flash(trixie.path, "--bundle", str(trixie.path), *yes), 1, "neither a folder"),
    ]
    mount(desk.root, "30 22 8:401 / /media/me/boot rw - vfat /dev/sdz1 rw")
    cases.append((desk.flash(trixie.path, *yes), 1, "unmount it first"))
    for done, code, said in cases:
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert desk.card.read_bytes() == before
    assert desk.invited() == set()


class _AtTheTerminal:
    """`coda flash --write` that asks for the serial number at a terminal, as far as the question."""

    def __init__(self, desk: Desk, image: Path) -> None:
        self.keys, its_end = os.openpty()
        command = [sys.executable, "-m", "coda", "flash", "--image", str(image), "--device", "/dev/sdz", "--write"]
        command += ["--root", str(desk.root), "--config", str(desk.config), "--name", "pi-1"]
        command += ["--receipt", str(desk.root / "receipt.json")]
        environment = {**ENVIRONMENT, "TMPDIR": str(desk.root)}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=its_end, stderr=subprocess.PIPE)
        os.close(its_end)
        self._watchdog = Timer(60, self.process.kill)
        self._watchdog.start()
        self.said = b""
        assert self.process.stderr is not None
        while b"serial number" not in self.said:
            self.said += (piece := os.read(self.process.stderr.fileno(), 4096))
            assert piece, self.said

    def end(self) -> int:
        """Wait for it. Returns its exit code."""
        with self.process:
            assert self.process.stderr is not None
            self.said += self.process.stderr.read()
        self._watchdog.cancel()
        os.close(self.keys)
        return self.process.returncode


@pytest.mark.parametrize("swapped", [False, True])
def test_the_serial_is_typed(desk: Desk, trixie: Image, swapped: bool) -> None:
    """At a terminal; what was mounted or swapped while somebody typed is not the disk that was looked at."""
    asking = _AtTheTerminal(desk, trixie.path)
    if swapped:
        put(desk.root, "sys/block/sdz/diskseq", 10)
    os.write(asking.keys, SERIAL.encode() + b"\n")
    assert asking.end() == (1 if swapped else 0), asking.said
    assert (b"not the disk that it was" in asking.said) is swapped
    assert (desk.card.read_bytes()[:15] == b"an older system") is swapped


def test_nothing_private_is_left_when_it_is_ended(desk: Desk, trixie: Image) -> None:
    """The copy of the boot partition goes with the process, also on SIGTERM."""
    asking = _AtTheTerminal(desk, trixie.path)
    assert list(desk.root.glob("coda-flash-*")) != []
    asking.process.terminate()
    assert asking.end() == 143
    assert list(desk.root.glob("coda-flash-*")) == []


def test_an_image_larger_than_the_card_is_refused(tmp_path: Path, desk: Desk, trixie: Image) -> None:
    """Found out while it is read, not while it is written."""
    small = system(tmp_path / "small")
    card = usb_card(small, 32 * MIB)
    before = card.read_bytes()
    done = desk.flash(trixie.path, "--root", str(small), "--write", "--serial", SERIAL)
    assert done.returncode == 1
    assert "more than the 33554432 bytes" in done.stderr
    assert card.read_bytes() == before


def test_a_medium_that_fails_in_between_does_not_boot(desk: Desk, trixie: Image) -> None:
    """The kernel refuses the process's writes beyond 48 MiB of 52: an error, an empty sector 0; a second try works."""
    command = [sys.executable, "-m", "coda", "flash", "--image", str(trixie.path), "--device", "/dev/sdz"]
    command += ["--root", str(desk.root), "--config", str(desk.config), "--name", "pi-1", "--write", "--serial", SERIAL]
    code = "import os, resource, sys\n"
    code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({48 * MIB}, {48 * MIB}))\nos.execv(sys.argv[1], sys.argv[1:])"
    limited = [sys.executable, "-c", code, *command]
    done = subprocess.run(limited, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "does not boot" in done.stderr
    card = desk.card.read_bytes()
    assert card[:512] == bytes(512)
    assert card[BOOT_AT : BOOT_AT + 512] == trixie.path.read_bytes()[BOOT_AT : BOOT_AT + 512]
    assert desk.flash(trixie.path, "--write", "--serial", SERIAL).returncode == 0
    assert partitions(desk.card) == partitions(trixie.path)


def test_a_setting_that_the_fleet_decides_is_refused(desk: Desk, trixie: Image) -> None:
    """Also one that no device knows, and a missing fleet."""
    for text, said in [
        (FLEET_TOML.replace("contribute = true", 'host = "x"'), "comes from the fleet"),
        (FLEET_TOML.replace("contribute = true", "colour = 1"), "unknown values"),
        (FLEET_TOML.replace('"fleet"', '"none"'), "coda fleet init"),
    ]:
        desk.config.write_text(text)
        done = desk.flash(trixie.path)
        assert done.returncode in (1, 2)
        assert said in done.stderr
