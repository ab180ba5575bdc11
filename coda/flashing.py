"""From FLEET.toml and a name to a seeded image: token, configuration, receipt. `hardware.flash` does the writing."""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cloud_broker.membership.fleet import Fleet, new_token
from coda.errors import UsageError
from edge.config import load_config
from edge.tunnel.enrolment import config_text, starting_config
from hardware.flash.firstboot import ROOT_NAME
from hardware.flash.image import expected_sha256, is_sha256
from hardware.flash.prepare import Examined
from hardware.flash.prepare import seed as put_seed
from hardware.flash.receipt import Receipt
from hardware.flash.seed import Seed, System, bundle_files, check_hostname, detect
from hardware.flash.settings import FleetSettings, load_settings
from hardware.flash.target import FileTarget
from hardware.flash.writer import Progress, write
from protocol.enrolment import SECRET_BYTES, EnrolmentToken

RELEASES = "releases"
ROOT_IN_RELEASES = Path("metadata/1.root.json")

# Takes its place where a seed is only tried: as long as a real one, and good for nothing.
_NO_SECRET = bytes(SECRET_BYTES)


@dataclass(frozen=True)
class Order:
    """What somebody wants flashed.

    Attributes:
        name: The board's.
        settings: The fleet's.
        bundle: Files to install from.
        root: The root of trust by which the board takes releases; None for none.
    """

    name: str
    settings: FleetSettings
    bundle: dict[str, Path]
    root: bytes | None = None

    @classmethod
    def load(cls, config: Path, name: str, bundle: Path | None, releases: Path | None = None) -> Order:
        """Read the settings, and try the seed with a token that is good for nothing, before anything is touched.

        Args:
            config: FLEET.toml.
            name: The board's.
            bundle: What it installs; None to install from a package index.
            releases: The folder of `coda release init`; None takes the one beside the settings, if it is there.
        """
        root = releases or config.parent / RELEASES
        trusted = _trusted_root(root) if releases is not None or root.is_dir() else None
        order = cls(name, load_settings(config), bundle_files(bundle) if bundle is not None else {}, trusted)
        order.seed(spend=False)
        return order

    def seed(self, *, spend: bool) -> Seed:
        """The board's seed.

        Args:
            spend: Whether to make a token, which replaces one that waits under that name.

        Raises:
            SeedError: If no board can be called so.
            ConfigError: If there is no such fleet, or a setting in ``[device]`` is none of a device's.
        """
        check_hostname(self.name)
        token = self._token(spend)
        return Seed(
            hostname=self.name,
            device_toml=_device_toml(token, self.settings, self.root),
            token=token.to_text(),
            instance_id=f"coda-{self.name}-{secrets.token_hex(6)}",
            user=self.settings.user,
            ssh_keys=self.settings.ssh_keys,
            wifi=self.settings.wifi,
            bundle=self.bundle,
            root=self.root,
        )

    def _token(self, spend: bool) -> EnrolmentToken:
        if spend:
            return new_token(self.settings.directory, self.name, 3600 * self.settings.token_hours)
        fleet = Fleet.open(self.settings.directory)
        ports = (fleet.broker_port, fleet.enrolment_port)
        return EnrolmentToken(fleet.name, self.name, fleet.address, *ports, "0" * 64, _NO_SECRET)


def chosen_sha256(image: Path, given: str | None, unchecked: bool) -> str | None:
    """The digest that the image must have: the one given, or its publisher's in a file beside it.

    Raises:
        UsageError: If there is none, and going without was not asked for.
    """
    if given is not None and not is_sha256(given.lower()):
        raise UsageError("--sha256: 64 hexadecimal digits are needed, of the image as downloaded or unpacked")
    found = given.lower() if given is not None else expected_sha256(image)
    if found is None and not unchecked:
        raise UsageError(
            f"no digest to compare {image} with: give --sha256, or put the publisher's {image.name}.sha256 beside it, "
            "or say --unchecked"
        )
    return found


@contextmanager
def private_scratch() -> Iterator[Path]:
    """A folder of mode 0700 for the copy of a boot partition, gone afterwards, also on SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with tempfile.TemporaryDirectory(prefix="coda-flash-") as folder:
            yield Path(folder)
    finally:
        signal.signal(signal.SIGTERM, before)


def place_seed(examined: Examined, order: Order, *, spend: bool) -> tuple[System, str, tuple[str, ...]]:
    """Put the board's files into the copy of the boot partition. Returns the system, the seed's digest, the names."""
    system = detect(examined.fat)
    files = order.seed(spend=spend).files(system, examined.fat)
    return system, put_seed(examined, files), tuple(sorted(files))


def write_and_sign(
    target: FileTarget,
    examined: Examined,
    order: Order,
    *,
    where: str,
    model: str | None = None,
    serial: str | None = None,
    checked: bool,
    emulated: bool = False,
    progress: Progress = lambda _step, _bytes: None,
) -> Receipt:
    """Make the token, seed, write, verify; return what the receipt says."""
    system, seed_sha256, names = place_seed(examined, order, spend=True)
    written = write(target, examined, progress)
    return Receipt(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        name=order.name,
        system=system.value,
        image=examined.image.name,
        image_sha256=examined.digest.file_sha256,
        image_raw_sha256=examined.digest.raw_sha256,
        image_checked=checked,
        seed_sha256=seed_sha256,
        seed_files=names,
        written_sha256=written.sha256,
        written_bytes=written.size_bytes,
        target=where,
        target_model=model,
        target_serial=serial,
        read_back="direct" if target.reads_direct else "dropped",
        emulated=emulated,
    )


def _trusted_root(releases: Path) -> bytes:
    """The first root of a folder of releases, signed by its own keys; boards follow the chain from it to the newest."""
    from tuf.api.exceptions import DownloadError, RepositoryError
    from tuf.api.metadata import Metadata, Root

    path = releases / ROOT_IN_RELEASES
    try:
        data = path.read_bytes()
        root = Metadata[Root].from_bytes(data)
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name the folder that `coda release init` made") from error
    except (RepositoryError, DownloadError, ValueError) as error:
        raise UsageError(f"{path}: no root of trust that its own keys have signed ({error})") from error
    return data


def _device_toml(token: EnrolmentToken, settings: FleetSettings, root: bytes | None) -> bytes:
    """The board's configuration, seen to be one that `coda edge run` takes."""
    fixed = starting_config(token)
    if clash := sorted(set(fixed) & set(settings.device)):
        raise UsageError(f"{settings.path}, [device] {', '.join(clash)}: comes from the fleet, and cannot be set")
    updates = {} if root is None else {"updates": {**settings.device.get("updates", {}), "root": ROOT_NAME}}
    text = config_text({**fixed, **settings.device, **updates})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "device.toml"
        path.write_bytes(text)
        load_config(path, f"{settings.path}, [device]")
    return text
