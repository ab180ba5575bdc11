"""What the signatures' check makes of metadata that somebody between the signers and the device put together."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from cloud_broker.releases.keys import key_path, load_key
from cloud_broker.releases.repository import ReleaseRepository
from edge.errors import UpdateError, UpdateRefusedError
from edge.updates.release_install import unpack
from edge.updates.release_state import ReleaseFolder
from edge.updates.release_trust import Trusted, check
from protocol.releases import pack_metadata, unpack_metadata
from tests.edge.releases import bundle

Files = dict[str, bytes]


class Signers:
    """A repository with one release, its keys, and a device that was given its first root."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        made = ReleaseRepository.create(folder / "releases", self.keys)
        (folder / "pi5.tar").write_bytes(b"wheels")
        made.add(folder / "pi5.tar", version="0.2.0")
        made.publish()
        self.files: Files = unpack_metadata(made.metadata())
        self.root = folder / "releases/metadata/1.root.json"
        self.device = ReleaseFolder(folder / "device")

    def signed(self, name: str, change: Callable[[Any], None], *keys: str) -> bytes:
        """A file, changed and signed anew by these keys."""
        found: Metadata[Any] = Metadata.from_bytes(self.root.read_bytes() if "root" in name else self.files[name])
        change(found.signed)
        found.signatures.clear()
        for key in keys:
            found.sign(load_key(key_path(self.keys, key)), append=True)
        return found.to_bytes()

    def check(self, files: Files, passed_s: float = 0.0) -> Trusted:
        """What the device makes of them, where it surely is so late."""
        offered = self.root.parent / "offered"
        offered.write_bytes(pack_metadata(files))
        return check(self.device, self.root, offered, "pi5.tar", passed_s)


@pytest.fixture
def signers(tmp_path: Path) -> Signers:
    """Those of a fleet."""
    return Signers(tmp_path)


def _expire(signed: Any) -> None:
    signed.expires = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=1)


def _second_root(signed: Any) -> None:
    signed.version = 2


def _root_of_one(signed: Any) -> None:
    signed.version = 2
    signed.roles["root"].threshold = 1


@pytest.mark.parametrize(
    ("name", "change", "keys", "said"),
    [
        ("timestamp.json", _expire, ["timestamp"], "expired"),
        ("timestamp.json", lambda _signed: None, ["targets"], "not signed by the keys"),
        ("2.root.json", _second_root, ["root-1", "root-1"], "signed by 1/2 keys"),
        ("2.root.json", _root_of_one, ["root-1"], "signed by 1/2 keys"),
    ],
)
def test_what_the_signers_did_not_agree_to_is_refused(
    signers: Signers, name: str, change: Callable[[Any], None], keys: list[str], said: str
) -> None:
    """Held back until it expired, signed by another role's key, or a root that too few signed, or one of them twice."""
    with pytest.raises(UpdateRefusedError, match=said):
        signers.check({**signers.files, name: signers.signed(name, change, *keys)})


def test_a_clock_that_was_set_back_revives_nothing(signers: Signers) -> None:
    """What has ended by the time that surely passed is refused, though by the wall clock it holds for 60 days."""
    hour_s = 3600.0
    ends_s = Metadata[Any].from_bytes(signers.files["timestamp.json"]).signed.expires.timestamp()
    assert signers.check(signers.files, ends_s - hour_s).number == 1
    with pytest.raises(UpdateRefusedError, match=r"timestamp ended .* UTC at least"):
        signers.check(signers.files, ends_s + hour_s)


def test_a_targets_file_that_says_nothing_of_its_release_is_refused(signers: Signers) -> None:
    """Though all of it is signed."""
    name = next(name for name in signers.files if "targets" in name)

    def wordless(signed: Any) -> None:
        signed.targets["pi5.tar"].unrecognized_fields["custom"] = "number 9"

    files = {**signers.files, name: signers.signed(name, wordless, "targets")}
    with pytest.raises(UpdateRefusedError, match="no number"):
        signers.check(files)


def test_what_a_power_cut_left_of_the_trust_locks_nobody_out(signers: Signers) -> None:
    """Files of no bytes, as a card may have them, are fetched again."""
    found = signers.check(signers.files)
    for path in (signers.device.path / "trust").rglob("*.json"):
        path.write_bytes(b"")
    assert signers.check(signers.files) == found


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    """Whoever signed it: as a bundle's fault."""
    packed = bytearray(lzma.compress(bundle(tmp_path / "b.tar", "0.2.0").read_bytes(), preset=0))
    chunk = 12 + 4 * (packed[12] + 1)  # the first of the stream, after the headers of stream and block
    assert packed[chunk] >= 0xC0
    packed[chunk + 6 + int.from_bytes(packed[chunk + 3 : chunk + 5], "big") + 1] = 3  # the next: of no kind there is
    (tmp_path / "b.tar.xz").write_bytes(packed)
    with pytest.raises(UpdateError, match="is no archive: Corrupt"):
        unpack(tmp_path / "b.tar.xz", tmp_path / "wheels")
