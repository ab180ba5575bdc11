"""`coda flash`, as an operator uses it: on an emulated computer whose disks are sparse files."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

import pytest
import yaml
import zstandard

from cloud_broker.fleet import Fleet, members
from edge.config import load_config
from protocol.enrolment import EnrolmentToken
from tests.coda.running import ENVIRONMENT, ROOT, coda, coda_here
from tests.flash.fat_reader import Fat32
from tests.flash.images import BOOKWORM, BOOT_AT, MIB, TRIXIE, UBUNTU, Image, build, partition, partitions, tool
from tests.flash.trees import SERIAL, mount, system, usb_card
from tests.hardware.trees import put

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

_CARD_BYTES = 64 * MIB
_PASSPHRASE = "a passphrase of the workshop"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJtJ me@desk"
_FLEET_TOML = f"""\
fleet = "fleet"
[device]
contribute = true
[wifi]
ssid = "workshop"
country = "DE"
passphrase_file = "wifi.passphrase"
[user]
ssh_keys = ["{_KEY}"]
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
    secret.write_text(_PASSPHRASE)
    secret.chmod(0o600)
    config = tmp_path / "FLEET.toml"
    config.write_text(_FLEET_TOML)
    return Desk(root, card, config, tmp_path / "fleet")


@pytest.fixture(scope="module")
def trixie(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """An image of 52 MiB, with its publisher's digest beside it."""
    image = build(tmp_path_factory.mktemp("trixie") / "os.img", TRIXIE)
    digest = hashlib.sha256(image.path.read_bytes()).hexdigest()
    image.path.with_name("os.img.sha256").write_text(f"{digest}  os.img\n")
    return image


def _packed(image: Image, pack: Callable[[bytes], bytes], suffix: str) -> tuple[Path, str]:
    path = image.path.with_name(image.path.name + suffix)
    path.write_bytes(pack(image.path.read_bytes()))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def _check_parts(card: Path, image: Image, folder: Path) -> dict[str, bytes]:
    """The boot partition's files by a reader of the tests' own, once sfdisk, fsck.vfat and e2fsck found no fault."""
    assert partitions(card) == partitions(image.path)
    boot = partition(card, BOOT_AT, image.boot_bytes, folder / "boot")
    tool("fsck.vfat", "-n", str(boot))
    root = partition(card, image.root_at, image.root_bytes, folder / "root")
    assert root.read_bytes() == partition(image.path, image.root_at, image.root_bytes, folder / "was").read_bytes()
    tool("e2fsck", "-fn", str(root))
    assert tool("debugfs", "-R", "cat /etc/hostname", str(root)) == b"raspberrypi\n"
    files = Fat32(boot.read_bytes()).files()
    listed = tool("mdir", "-i", f"{card}@@{BOOT_AT}", "-/", "-b", "::").decode().split()
    assert {name.removeprefix("::/") for name in listed if not name.endswith("/")} == set(files)
    return files


def _check_board(files: dict[str, bytes], desk: Desk, folder: Path) -> EnrolmentToken:
    """What every board gets: a token that the fleet knows, and a configuration that `coda edge run` takes."""
    token = EnrolmentToken.from_text(files["coda/token"].decode())
    assert (token.device, token.host) == ("pi-1", "server.local")
    waiting = json.loads((desk.fleet / "tokens/pi-1.json").read_text())
    assert hashlib.sha256(token.secret).hexdigest() in json.dumps(waiting)
    values = tomllib.loads(files["coda/device.toml"].decode())
    assert (values["device"], values["contribute"]) == ("pi-1", True)
    (folder / "device.toml").write_bytes(files["coda/device.toml"])
    assert load_config(folder / "device.toml").port == 8883
    return token


def _check_silence(done: subprocess.CompletedProcess[str], token: EnrolmentToken, receipt: Path) -> None:
    said = done.stdout + done.stderr + receipt.read_text()
    for secret in (token.to_text()[6:], _PASSPHRASE, hashlib.sha256(token.secret).hexdigest()):
        assert secret not in said
    assert receipt.stat().st_mode & 0o777 == 0o600


def test_without_write_nothing_is_written(desk: Desk, trixie: Image) -> None:
    """A dry run reads everything, says what would happen, and leaves card, fleet and folder as they were."""
    before = desk.card.read_bytes()
    done = desk.flash(trixie.path, "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["written"], plan["system"], plan["target"]["serial"]) == (False, "pi-cloud-init", SERIAL)
    assert "coda/token" in plan["seed_files"]
    assert "--write" in desk.flash(trixie.path).stdout
    assert desk.card.read_bytes() == before
    assert desk.invited() == set()
    assert not (desk.root / "receipt.json").exists()


def test_a_trixie_card_is_written_and_seeded(desk: Desk, trixie: Image, tmp_path: Path) -> None:
    """From .xz; every part read back with other tools; the receipt says what is there, and no secret is shown."""
    image, digest = _packed(trixie, lambda data: lzma.compress(data, preset=0), ".xz")
    done = desk.flash(image, "--sha256", digest, "--write", "--serial", SERIAL, "--json")
    assert done.returncode == 0, done.stderr
    files = _check_parts(desk.card, trixie, tmp_path)
    token = _check_board(files, desk, tmp_path)
    _check_silence(done, token, desk.root / "receipt.json")
    assert desk.invited() == {"pi-1"}
    assert yaml.safe_load(files["user-data"])["hostname"] == "pi-1"
    access = yaml.safe_load(files["network-config"])["network"]["wifis"]["wlan0"]["access-points"]
    assert len(access["workshop"]["password"]) == 64
    instance = yaml.safe_load(files["meta-data"])["instance-id"]
    assert files["cmdline.txt"].decode().endswith(f" ds=nocloud;i={instance}\n")
    receipt = json.loads((desk.root / "receipt.json").read_text())
    written = desk.card.read_bytes()[: trixie.path.stat().st_size]
    assert receipt["written_sha256"] == hashlib.sha256(written).hexdigest()
    assert receipt["image_sha256"] == digest
    assert (receipt["target_serial"], receipt["emulated"], receipt["image_checked"]) == (SERIAL, True, True)


def test_a_bookworm_card_runs_a_script(desk: Desk, tmp_path: Path) -> None:
    """From .zst; the script is shell, private to its run, and the command line calls it where Bookworm mounts it."""
    source = build(tmp_path / "os.img", BOOKWORM)
    image, digest = _packed(source, zstandard.ZstdCompressor().compress, ".zst")
    done = desk.flash(image, "--sha256", digest, "--write", "--serial", SERIAL)
    assert done.returncode == 0, done.stderr
    files = _check_parts(desk.card, source, tmp_path)
    _check_silence(done, _check_board(files, desk, tmp_path), desk.root / "receipt.json")
    assert b"systemd.run=/boot/firmware/firstrun.sh" in files["cmdline.txt"]
    assert _PASSPHRASE.encode() not in files["firstrun.sh"]
    subprocess.run(["sh", "-n"], input=files["firstrun.sh"], check=True)


def test_an_ubuntu_card_is_seeded_and_keeps_its_command_line(desk: Desk, tmp_path: Path) -> None:
    """From .gz, with a bundle."""
    source = build(tmp_path / "os.img", UBUNTU)
    image, digest = _packed(source, lambda data: gzip.compress(data, 1), ".gz")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "coda_edge-0.1.0-py3-none-any.whl").write_bytes(os.urandom(100_000))
    done = desk.flash(image, "--sha256", digest, "--write", "--serial", SERIAL, "--bundle", str(wheels))
    assert done.returncode == 0, done.stderr
    files = _check_parts(desk.card, source, tmp_path)
    _check_board(files, desk, tmp_path)
    wheel = wheels / "coda_edge-0.1.0-py3-none-any.whl"
    assert files[f"coda/bundle/{wheel.name}"] == wheel.read_bytes()
    assert files["cmdline.txt"].decode().strip() == UBUNTU["cmdline.txt"]


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


def test_an_image_file_needs_no_device(desk: Desk, trixie: Image, tmp_path: Path) -> None:
    """`coda flash image`: the same seed in a private, sparse file, not overwritten, and gone after a failure."""
    out, receipt = tmp_path / "pi-1.img", tmp_path / "pi-1.json"
    fixed = ("--config", str(desk.config), "--name", "pi-1", "--out", str(out), "--receipt", str(receipt))
    done = coda("flash", "image", "--image", str(trixie.path), *fixed)
    assert done.returncode == 0, done.stderr
    token = _check_board(_check_parts(out, trixie, tmp_path), desk, tmp_path)
    _check_silence(done, token, receipt)
    assert out.stat().st_mode & 0o777 == 0o600
    again = coda("flash", "image", "--image", str(trixie.path), *fixed)
    assert again.returncode == 2
    assert "--receipt" in again.stderr
    receipt.unlink()
    again = coda("flash", "image", "--image", str(trixie.path), *fixed)
    assert again.returncode == 1
    assert "exists" in again.stderr
    out.unlink()
    huge = tmp_path / "bundle.tar"
    huge.write_bytes(os.urandom(41 * MIB))
    done = coda("flash", "image", "--image", str(trixie.path), *fixed, "--bundle", str(huge))
    assert done.returncode == 1
    assert "bundle.tar does not go onto the boot partition" in done.stderr
    assert not out.exists()


def test_a_jetson_gets_a_folder_with_instructions(desk: Desk, tmp_path: Path) -> None:
    """Private to its owner, with the steps of NVIDIA's tools and the same script."""
    out = tmp_path / "orin-1"
    done = coda("flash", "jetson", "--config", str(desk.config), "--name", "orin-1", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    assert "INSTRUCTIONS.md" in json.loads(done.stdout)["files"]
    text = (out / "INSTRUCTIONS.md").read_text()
    assert "recovery mode" in text
    assert "l4t_initrd_flash.sh" in text
    token = EnrolmentToken.from_text((out / "coda/token").read_text())
    assert token.device == "orin-1"
    assert token.to_text() not in done.stdout + done.stderr + text
    assert {path.stat().st_mode & 0o077 for path in [out, *out.rglob("*")]} == {0}


def test_disks_say_why_they_may_not_be_written_to(desk: Desk) -> None:
    """The computer's own with its reasons, the card with none."""
    done = coda("flash", "disks", "--root", str(desk.root), "--json")
    found = {disk["path"]: disk["refusals"] for disk in json.loads(done.stdout)}
    assert found["/dev/sdz"] == []
    assert any("runs from it" in reason for reason in found["/dev/nvme0n1"])


def test_a_setting_that_the_fleet_decides_is_refused(desk: Desk, trixie: Image) -> None:
    """Also one that no device knows, and a missing fleet."""
    for text, said in [
        (_FLEET_TOML.replace("contribute = true", 'host = "x"'), "comes from the fleet"),
        (_FLEET_TOML.replace("contribute = true", "colour = 1"), "unknown values"),
        (_FLEET_TOML.replace('"fleet"', '"none"'), "coda fleet init"),
    ]:
        desk.config.write_text(text)
        done = desk.flash(trixie.path)
        assert done.returncode in (1, 2)
        assert said in done.stderr
