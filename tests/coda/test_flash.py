"""`coda flash`, as an operator uses it: on an emulated computer whose disks are sparse files."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
import zstandard

from cloud_broker.releases.repository import ReleaseRepository
from coda.errors import UsageError
from coda.flashing import Order
from edge.config import load_config
from edge.errors import ConfigError
from hardware.errors import SeedError
from protocol.enrolment import EnrolmentToken
from tests.coda.desk import PASSPHRASE, Desk, desk, trixie
from tests.coda.running import coda_here
from tests.flash.fat_reader import Fat32
from tests.flash.images import BOOKWORM, BOOT_AT, MIB, UBUNTU, Image, build, partition, partitions, tool
from tests.flash.trees import SERIAL

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

__all__ = ["desk", "trixie"]  # fixtures


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
    for secret in (token.to_text()[6:], PASSPHRASE, hashlib.sha256(token.secret).hexdigest()):
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
    assert PASSPHRASE.encode() not in files["firstrun.sh"]
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


def test_a_board_is_told_whose_releases_to_take(desk: Desk, trixie: Image, tmp_path: Path) -> None:
    """By the root of trust beside the settings, or of a named folder, read back; tables of settings go along.

    One that its own keys did not sign is refused before anything is written.
    """
    made = ReleaseRepository.create(tmp_path / "releases", tmp_path / "keys")
    desk.config.write_text(desk.config.read_text() + '[device.updates]\ntrial_s = 300\n[device.api]\nsocket = "/a/b"\n')
    out = tmp_path / "pi-1.img"
    fixed = ("flash", "image", "--image", str(trixie.path), "--config", str(desk.config), "--name", "pi-1")
    done = coda_here(*fixed, "--out", str(out), "--receipt", str(tmp_path / "receipt.json"))
    assert done.returncode == 0, done.stderr
    files = _check_parts(out, trixie, tmp_path)
    _check_board(files, desk, tmp_path)
    assert files["coda/root.json"] == made.root_path.read_bytes()
    (tmp_path / "root.json").write_bytes(files["coda/root.json"])
    found = load_config(tmp_path / "device.toml")
    assert (found.updates.root, found.updates.trial_s) == (tmp_path / "root.json", 300)
    assert found.api.socket == Path("/a/b")
    other = tmp_path / "elsewhere"
    ReleaseRepository.create(other, tmp_path / "other-keys")
    path = other / "metadata/1.root.json"
    said = json.loads(path.read_text())
    said["signed"]["expires"] = "2099-01-01T00:00:00Z"
    path.write_text(json.dumps(said))
    refused = coda_here(*fixed, "--out", str(tmp_path / "no.img"), "--releases", str(other))
    assert refused.returncode != 0
    assert "no root of trust that its own keys have signed" in " ".join(refused.stderr.split())
    refused = coda_here(*fixed, "--out", str(tmp_path / "no.img"), "--releases", str(tmp_path / "keys"))
    assert "coda release init" in " ".join(refused.stderr.split())
    assert not (tmp_path / "no.img").exists()


@pytest.mark.parametrize(
    ("name", "device", "said"),
    [
        ("pi-1", "colour = 1", "FLEET.toml, [device]: unknown values ['colour']"),
        ("pi-1", "threads = 0", "FLEET.toml, [device]: threads 0 is not in 1..256"),
        ("pi-1", "[device.api]\nport = true", "FLEET.toml, [device]: api.port must be int, got True"),
        ("pi-1", 'host = "elsewhere"', "FLEET.toml, [device] host: comes from the fleet"),
        ("pi_1.a", "", "a board's name is 1 to 63 of a-z, 0-9 and '-'"),
        ("pi 1", "", "a board's name is 1 to 63 of a-z, 0-9 and '-'"),
    ],
)
def test_a_fault_is_named_where_it_can_be_mended(desk: Desk, name: str, device: str, said: str) -> None:
    """In FLEET.toml, not in a file made from it; and a name is told by the narrower of the two rules it must keep."""
    desk.config.write_text(f'fleet = "fleet"\n[device]\n{device}\n')
    with pytest.raises((UsageError, ConfigError, SeedError), match=re.escape(said)):
        Order.load(desk.config, name, None)


def test_an_image_file_needs_no_device(desk: Desk, trixie: Image, tmp_path: Path) -> None:
    """`coda flash image`: the same seed in a private, sparse file, not overwritten, and gone after a failure."""
    out, receipt = tmp_path / "pi-1.img", tmp_path / "pi-1.json"
    fixed = ("--config", str(desk.config), "--name", "pi-1", "--out", str(out), "--receipt", str(receipt))
    done = coda_here("flash", "image", "--image", str(trixie.path), *fixed)
    assert done.returncode == 0, done.stderr
    token = _check_board(_check_parts(out, trixie, tmp_path), desk, tmp_path)
    _check_silence(done, token, receipt)
    assert out.stat().st_mode & 0o777 == 0o600
    again = coda_here("flash", "image", "--image", str(trixie.path), *fixed)
    assert again.returncode == 2
    assert "--receipt" in again.stderr
    receipt.unlink()
    again = coda_here("flash", "image", "--image", str(trixie.path), *fixed)
    assert again.returncode == 1
    assert "exists" in again.stderr
    out.unlink()
    huge = tmp_path / "bundle.tar"
    huge.write_bytes(os.urandom(41 * MIB))
    done = coda_here("flash", "image", "--image", str(trixie.path), *fixed, "--bundle", str(huge))
    assert done.returncode == 1
    assert "bundle.tar does not go onto the boot partition" in done.stderr
    assert not out.exists()


def test_a_jetson_gets_a_folder_with_instructions(desk: Desk, tmp_path: Path) -> None:
    """Private to its owner, with the steps of NVIDIA's tools and the same script."""
    out = tmp_path / "orin-1"
    done = coda_here("flash", "jetson", "--config", str(desk.config), "--name", "orin-1", "--out", str(out), "--json")
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
    done = coda_here("flash", "disks", "--root", str(desk.root), "--json")
    found = {disk["path"]: disk["refusals"] for disk in json.loads(done.stdout)}
    assert found["/dev/sdz"] == []
    assert any("runs from it" in reason for reason in found["/dev/nvme0n1"])
