"""Settings and seeds: what goes onto a card, read with the parsers of those who will read it."""

from __future__ import annotations

import configparser
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import ImageError, SeedError
from hardware.flash import cloudinit, firstboot, firstrun
from hardware.flash.fat import Fat
from hardware.flash.prepare import examine
from hardware.flash.prepare import seed as put_seed
from hardware.flash.seed import Seed, System, bundle_files, detect
from hardware.flash.settings import Wifi, load_settings
from tests.flash.images import BOOKWORM, CMDLINE, MIB, TRIXIE, UBUNTU, build, tool

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJtJ me@desk"
# IEEE 802.11i, annex H.4: passphrase "password", network "IEEE".
PASSPHRASE = "password"
PSK = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"


def _settings(folder: Path, text: str, passphrase: str = PASSPHRASE, mode: int = 0o600) -> Path:
    secret = folder / "wifi.passphrase"
    secret.write_text(passphrase + "\n")
    secret.chmod(mode)
    path = folder / "FLEET.toml"
    path.write_text(text)
    return path


WIFI = '[wifi]\nssid = "IEEE"\ncountry = "DE"\npassphrase_file = "wifi.passphrase"\n'


def test_settings_are_read_and_the_passphrase_stays_behind(tmp_path: Path) -> None:
    """WPA2's key is derived, by the standard's own test vector; no repr shows it."""
    text = f'fleet = "fleet"\n[device]\nthreads = 2\n{WIFI}[user]\nname = "me"\nssh_keys = ["{KEY}"]\n'
    found = load_settings(_settings(tmp_path, text))
    assert found.directory == tmp_path / "fleet"
    assert (found.device, found.user, found.ssh_keys) == ({"threads": 2}, "me", (KEY,))
    assert found.wifi == Wifi("IEEE", "DE", PSK)
    assert PSK not in repr(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "not TOML"),
        ("", "`fleet` is missing"),
        ("fleet = 1", "fleet is of the wrong kind"),
        ('fleet = "f"\ncolour = "red"', "colour is unknown"),
        ('fleet = "f"\ntoken_hours = 0', "token_hours"),
        ('fleet = "f"\n[device]\nx = [1]', "device.x is neither"),
        ('fleet = "f"\n[device.api]\nx = [1]', "device.api.x is neither"),
        ('fleet = "f"\n[device.api.deeper]\nx = 1', "device.api.deeper is neither"),
        ('fleet = "f"\n[wifi]\nssid = "a"', "wifi.country is missing"),
        ('fleet = "f"\n' + WIFI.replace("DE", "de"), "wifi.country"),
        ('fleet = "f"\n' + WIFI.replace("IEEE", "x" * 33), "wifi.ssid"),
        ('fleet = "f"\n' + WIFI.replace("wifi.pass", "no.pass"), "No such file"),
        ('fleet = "f"\n[user]\nname = "Root User"', "user.name"),
        ('fleet = "f"\n[user]\nssh_keys = ["ssh-ed25519 AAAA\\nrm -rf /"]', "user.ssh_keys"),
    ],
)
def test_malformed_settings_are_refused(tmp_path: Path, text: str, said: str) -> None:
    """Each with the name of what is wrong."""
    with pytest.raises(SeedError, match=said):
        load_settings(_settings(tmp_path, text))


def test_a_passphrase_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """So is one that is too short; neither message repeats it."""
    with pytest.raises(SeedError, match="chmod 600"):
        load_settings(_settings(tmp_path, 'fleet = "f"\n' + WIFI, mode=0o644))
    with pytest.raises(SeedError, match="8 to 63") as caught:
        load_settings(_settings(tmp_path, 'fleet = "f"\n' + WIFI, "secret7"))
    assert "secret7" not in str(caught.value)


def test_cloud_init_reads_what_was_meant() -> None:
    """Host name, a login by key alone, ssh through runcmd, the setup unit; a cable and the Wi-Fi; a new instance."""
    user = yaml.safe_load(cloudinit.user_data("pi-1", "me", (KEY,)))
    assert cloudinit.user_data("pi-1", "me", ()).startswith(b"#cloud-config\n")
    assert (user["hostname"], user["ssh_pwauth"]) == ("pi-1", False)
    assert user["users"][0]["ssh_authorized_keys"] == [KEY]
    assert user["users"][0]["lock_passwd"] is True
    assert ["systemctl", "enable", "--now", "ssh"] in user["runcmd"]
    assert "enable_ssh" not in user
    assert user["write_files"][0]["content"] == firstboot.SETUP_UNIT
    without = yaml.safe_load(cloudinit.user_data("pi-1", "me", ()))
    assert ["systemctl", "enable", "--now", "ssh"] not in without["runcmd"]
    network = yaml.safe_load(cloudinit.network_config(Wifi("my net", "DE", PSK)))["network"]
    assert network["wifis"]["wlan0"]["access-points"] == {"my net": {"password": PSK}}
    assert network["wifis"]["wlan0"]["regulatory-domain"] == "DE"
    assert "wifis" not in yaml.safe_load(cloudinit.network_config(None))["network"]
    assert yaml.safe_load(cloudinit.meta_data("coda-pi-1-7"))["instance-id"] == "coda-pi-1-7"


def test_the_command_line_stays_one_line() -> None:
    """What the image had is kept, an earlier seed's part replaced; nonsense is refused."""
    with_source = cloudinit.cmdline(TRIXIE["cmdline.txt"].encode() + b"\n", "coda-x")
    assert with_source == CMDLINE.encode() + b" ds=nocloud;i=coda-x\n"
    assert cloudinit.cmdline(with_source, "coda-x") == with_source
    with_script = firstrun.cmdline(CMDLINE.encode())
    assert with_script.startswith(CMDLINE.encode() + b" systemd.run=/boot/firmware/firstrun.sh ")
    assert with_script.endswith(b" systemd.unit=kernel-command-line.target\n")
    assert firstrun.cmdline(with_script) == with_script
    for nonsense in (b"", b"a\nb\n", b"x" * 5000):
        with pytest.raises(ImageError):
            firstrun.cmdline(nonsense)


@settings(max_examples=50, deadline=None)
@given(ssid=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8))
def test_any_network_name_survives_both_ways(ssid: str) -> None:
    """In netplan's YAML, and in NetworkManager's key file as bytes."""
    wifi = Wifi(ssid, "DE", PSK)
    network = yaml.safe_load(cloudinit.network_config(wifi))["network"]
    assert list(network["wifis"]["wlan0"]["access-points"]) == [ssid]
    script = firstrun.script("pi-1", "me", (), wifi)
    connection = configparser.RawConfigParser()
    connection.read_string(script.partition("<<'CONNECTION'\n")[2].partition("CONNECTION\n")[0])
    assert bytes(int(byte) for byte in connection["wifi"]["ssid"].strip(";").split(";")).decode() == ssid
    assert connection["wifi-security"]["psk"] == PSK


def test_the_scripts_are_shell(tmp_path: Path) -> None:
    """As `sh` reads them; a key's comment cannot become a command."""
    hostile = "ssh-ed25519 AAAA $(touch /tmp/x)'; rm -rf /"
    for text in (firstboot.SCRIPT, firstrun.script("pi-1", "me", (KEY, hostile), Wifi("a", "DE", PSK))):
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    line = next(line for line in firstrun.script("p", "me", (hostile,), None).splitlines() if "enable_ssh" in line)
    said = subprocess.run(
        ["sh", "-c", "custom=printf\\ %s\\\\n; " + line.replace('"$custom"', "$custom")],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert said.stdout.splitlines() == ["enable_ssh", "-k", hostile]


def test_the_units_are_systemds(tmp_path: Path) -> None:
    """The units have no fault that systemd finds."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / firstboot.SETUP_UNIT_NAME).write_text(firstboot.SETUP_UNIT)
    service = firstboot.SERVICE_UNIT.replace("/opt/coda/bin/coda", "/bin/true")
    (tmp_path / firstboot.SERVICE_UNIT_NAME).write_text(service)
    for name in (firstboot.SETUP_UNIT_NAME, firstboot.SERVICE_UNIT_NAME):
        done = subprocess.run([analyze, "verify", str(tmp_path / name)], capture_output=True, text=True, check=False)
        assert name not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["", "Pi", "pi_1", "-pi", "pi.local", "x" * 64, "pi 1; reboot"])
def test_a_name_that_no_host_may_have_is_refused(name: str) -> None:
    """Before anything is made of it."""
    with pytest.raises(SeedError, match="name"):
        Seed(hostname=name, device_toml=b"", token="t", instance_id="i")


def _seed(bundle: dict[str, Path] | None = None) -> Seed:
    return Seed(
        hostname="pi-1", device_toml=b'device = "pi-1"\n', token="coda1.secret", instance_id="i", bundle=bundle or {}
    )


@pytest.mark.parametrize(
    ("files", "system"),
    [(BOOKWORM, System.PI_FIRSTRUN), (TRIXIE, System.PI_CLOUD_INIT), (UBUNTU, System.UBUNTU)],
)
def test_systems_are_told_apart_and_get_their_files(tmp_path: Path, files: dict[str, str], system: System) -> None:
    """By what their publishers put on the boot partition; only what a system reads is changed."""
    image = build(tmp_path / "os.img", files, boot_bytes=MIB, root_bytes=MIB, fat=12)
    found = examine(image.path, tmp_path, expected=None)
    assert detect(found.fat) is system
    seed = _seed().files(system, found.fat)
    digest = put_seed(found, seed)
    listed = hashlib.sha256()
    for name in sorted(seed):
        content = tool("mtype", "-i", str(found.boot_file), f"::/{name}")
        assert content == seed[name]
        listed.update(f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode())
    assert digest == listed.hexdigest()
    assert ("firstrun.sh" in seed) == (system is System.PI_FIRSTRUN)
    assert ("user-data" in seed) == (system is not System.PI_FIRSTRUN)
    assert ("cmdline.txt" in seed) == (system is not System.UBUNTU)
    tool("fsck.vfat", "-n", str(found.boot_file))
    # Once more, as on a second try: files are replaced.
    assert put_seed(found, seed) == digest


def test_an_unknown_system_is_refused(tmp_path: Path) -> None:
    """A boot partition of something else, and one that is none."""
    image = build(tmp_path / "os.img", {"readme.txt": "x"}, boot_bytes=MIB, root_bytes=MIB, fat=12)
    with pytest.raises(ImageError, match="neither"):
        detect(examine(image.path, tmp_path, expected=None).fat)
    (tmp_path / "noise").write_bytes(b"\x5a" * MIB)
    with pytest.raises(ImageError, match="cannot be read"):
        Fat(tmp_path / "noise").names()


def test_a_damaged_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains of clusters that run in a circle; and whatever else keeps mcopy from ending."""
    boot = tmp_path / "boot.fat"
    tool("mkfs.vfat", "-F", "32", "-C", str(boot), str(40 << 10))
    tool("mcopy", "-i", str(boot), "-", "::config.txt", given=b"arm_64bit=1\n")
    with boot.open("r+b") as file:
        file.seek(32 * 512)  # the table, behind the reserved sectors
        file.write(b"\x02\0\0\0" * 4096)
    with pytest.raises(ImageError, match="loop"):
        detect(Fat(boot))
    monkeypatch.setattr("hardware.flash.fat._TIMEOUT_S", 0.0)
    with pytest.raises(ImageError, match="came to no end"):
        Fat(boot).write("user-data", b"x" * 10000)


def test_a_bundle_goes_along_if_it_fits(tmp_path: Path) -> None:
    """A folder or an archive; too much of it stops before a medium is touched."""
    wheels = tmp_path / "wheels"
    (wheels / "sub").mkdir(parents=True)
    with pytest.raises(SeedError, match="no wheel"):
        bundle_files(wheels)
    with pytest.raises(SeedError, match="neither a folder"):
        bundle_files(tmp_path / "none")
    (wheels / "sub/coda_edge-0.1.0-py3-none-any.whl").write_bytes(b"w" * 5000)
    (wheels / "requirements.txt").write_text("coda-edge==0.1.0\n")
    image = build(tmp_path / "os.img", TRIXIE, boot_bytes=MIB, root_bytes=MIB, fat=12)
    found = examine(image.path, tmp_path, expected=None)
    put_seed(found, _seed(bundle_files(wheels)).files(System.PI_CLOUD_INIT, found.fat))
    assert found.fat.read("coda/bundle/sub/coda_edge-0.1.0-py3-none-any.whl") == b"w" * 5000
    archive = tmp_path / "bundle.tar.gz"
    archive.write_bytes(bytes(2 * MIB))
    with pytest.raises(SeedError, match=r"bundle\.tar\.gz"):
        put_seed(found, _seed(bundle_files(archive)).files(System.PI_CLOUD_INIT, found.fat))


def test_without_mtools_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the package's name."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SeedError, match="install mtools"):
        Fat(tmp_path / "x").names()
