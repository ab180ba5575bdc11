"""FLEET.toml: what every board of a fleet gets. Secrets are in files of their own, which the settings name.

::

    fleet = "fleet"                        # the folder of `coda fleet init`, beside this file
    token_hours = 168                      # how long a card may lie before its board first boots

    [device]                               # settings for the board's device.toml
    contribute = false

    [device.api]                           # and its tables
    socket = "/run/coda/api.sock"

    [wifi]
    ssid = "workshop"
    country = "DE"
    passphrase_file = "wifi.passphrase"    # mode 0600

    [user]
    name = "maintainer"
    ssh_keys = ["ssh-ed25519 AAAA... me@desk"]
"""

from __future__ import annotations

import hashlib
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardware.errors import SeedError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

_KEY = re.compile(r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+( [^\x00-\x1f]*)?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_PSK = re.compile(r"[0-9a-f]{64}")
_TOKEN_HOURS = 168.0


@dataclass(frozen=True)
class Wifi:
    """A network to join.

    Attributes:
        ssid: Its name.
        country: Two capital letters; without them the radio stays off.
        psk: The key that WPA2 derives from name and passphrase, 64 hexadecimal digits: the passphrase itself, which may
            be used elsewhere, does not go onto a card.
    """

    ssid: str
    country: str
    psk: str = field(repr=False)


@dataclass(frozen=True)
class FleetSettings:
    """What every board of a fleet gets.

    Attributes:
        path: Where they stand.
        directory: The fleet's folder.
        token_hours: How long a board's token works.
        device: Settings for its device.toml.
        wifi: The network; None for a cable.
        user: Who may log in, by key alone.
        ssh_keys: With these keys; without one, ssh stays off.
    """

    path: Path
    directory: Path
    token_hours: float = _TOKEN_HOURS
    device: Mapping[str, Any] = field(default_factory=dict)
    wifi: Wifi | None = None
    user: str = "maintainer"
    ssh_keys: tuple[str, ...] = ()


def load_settings(path: Path) -> FleetSettings:
    """Read FLEET.toml; paths in it are relative to its own folder.

    Raises:
        SeedError: If it cannot be read, is not TOML, or a value is missing, unknown or malformed.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SeedError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SeedError(f"{path}: not TOML ({error})") from error
    _known(values, {"fleet": str, "token_hours": (int, float), "device": dict, "wifi": dict, "user": dict}, path)
    if "fleet" not in values:
        raise SeedError(f"{path}: `fleet` is missing: the folder that `coda fleet init` made")
    user = _known(values.get("user", {}), {"name": str, "ssh_keys": list}, path, "user.")
    for name, value in values.get("device", {}).items():
        for inner, one in value.items() if isinstance(value, dict) else [("", value)]:
            if not _is_plain(one):
                where = f"device.{name}.{inner}".rstrip(".")
                raise SeedError(f"{path}: {where} is neither text nor a number nor true or false, nor a list of texts")
    hours = float(values.get("token_hours", _TOKEN_HOURS))
    if not 0 < hours <= 24 * 365:
        raise SeedError(f"{path}: token_hours {hours:g} is not in 0..8760")
    return FleetSettings(
        path=path,
        directory=path.parent / Path(values["fleet"]).expanduser(),
        token_hours=hours,
        device=values.get("device", {}),
        wifi=_wifi(values["wifi"], path) if "wifi" in values else None,
        user=_matching(_USER, user.get("name", "maintainer"), f"{path}: user.name"),
        ssh_keys=tuple(_matching(_KEY, key, f"{path}: user.ssh_keys") for key in user.get("ssh_keys", [])),
    )


def _is_plain(value: object) -> bool:
    texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return texts or isinstance(value, (str, int, float))


def _known(values: dict[str, Any], kinds: Mapping[str, Any], path: Path, prefix: str = "") -> dict[str, Any]:
    for name, value in values.items():
        if name not in kinds:
            raise SeedError(f"{path}: {prefix}{name} is unknown; known are {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise SeedError(f"{path}: {prefix}{name} is of the wrong kind")
    return values


def _matching(pattern: re.Pattern[str], value: object, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise SeedError(f"{what}: malformed")
    return value


def _wifi(values: dict[str, Any], path: Path) -> Wifi:
    _known(values, {"ssid": str, "country": str, "passphrase_file": str}, path, "wifi.")
    missing = {"ssid", "country", "passphrase_file"} - set(values)
    if missing:
        raise SeedError(f"{path}: wifi.{sorted(missing)[0]} is missing")
    ssid = values["ssid"]
    if not 1 <= len(ssid.encode()) <= 32 or not ssid.isprintable():
        raise SeedError(f"{path}: wifi.ssid must be 1 to 32 bytes")
    country = _matching(re.compile(r"[A-Z]{2}"), values["country"], f"{path}: wifi.country (two capital letters)")
    return Wifi(ssid, country, _psk(ssid, path.parent / Path(values["passphrase_file"]).expanduser()))


def _psk(ssid: str, path: Path) -> str:
    """WPA2's key from the passphrase in a file that its owner alone reads; no message repeats the file's contents.

    Raises:
        SeedError: If it cannot be read, others can read it, or it holds no passphrase.
    """
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SeedError(f"{path}: others can read it; chmod 600 {path}")
        text = path.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise SeedError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SeedError(f"{path}: not text") from None
    if _PSK.fullmatch(text):
        return text
    if not 8 <= len(text.encode()) <= 63:
        raise SeedError(f"{path}: a Wi-Fi passphrase has 8 to 63 characters")
    return hashlib.pbkdf2_hmac("sha1", text.encode(), ssid.encode(), 4096, 32).hex()
