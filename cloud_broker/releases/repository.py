"""Releases as The Update Framework has them: what is signed, by whom, and until when.

{directory}/metadata/     N.root.json, N.targets.json, N.snapshot.json, timestamp.json: public
{directory}/staged.json   a root that waits for signatures
{directory}/bundles/      the bundles, by name

Four roles. ``root`` says whose keys count, by a threshold of keys that are kept offline. ``targets`` says which bundles
are releases. ``snapshot`` and ``timestamp`` say which of all this is the newest, and for how long that may be believed.
"""

from __future__ import annotations

import hashlib
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from cloud_broker.errors import ReleaseError
from cloud_broker.files import make_private_directory
from cloud_broker.releases.keys import load_key
from cloud_broker.releases.metadata import ReleaseMetadata
from cloud_broker.releases.root import first_root, keyids, next_root
from hardware.durable import write_private
from protocol.releases import pack_metadata
from protocol.topics import MAX_BLOB_BYTES, check_name

LIFETIMES = {
    Root.type: timedelta(days=365),
    Targets.type: timedelta(days=365),
    Snapshot.type: timedelta(days=60),
    Timestamp.type: timedelta(days=60),  # how long a device may be kept from hearing of newer releases
}
_METADATA = "metadata"
_STAGED = "staged.json"


class ReleaseRepository:
    """The releases in a directory.

    Args:
        directory: Where they are.
        keys: Folder of the private keys; only what signs reads them.

    Raises:
        ReleaseError: If there are none, or they are damaged.
    """

    def __init__(self, directory: Path, keys: Path) -> None:
        self._directory = directory
        self._keys = keys
        self._metadata = ReleaseMetadata(directory / _METADATA, keys)

    @classmethod
    def create(cls, directory: Path, keys: Path, *, root_keys: int = 3, threshold: int = 2) -> ReleaseRepository:
        """Make keys, and metadata that name them and no release yet.

        Args:
            directory: Where to keep what is signed.
            keys: Where to keep the keys; the root's are to be moved offline.
            root_keys: How many keys the root has.
            threshold: How many of them must sign a root.

        Raises:
            ReleaseError: If something is there already, or the numbers make no sense.
        """
        metadata = directory / _METADATA
        if metadata.exists():
            raise ReleaseError(f"releases are in {directory} already")
        root = first_root(keys, root_keys=root_keys, threshold=threshold, expires=_expiry(Root.type))
        make_private_directory(metadata)
        write_private(metadata / "1.root.json", root.to_bytes())
        made = cls(directory, keys)
        made._write_targets(Targets(expires=_expiry(Targets.type)))
        made.publish()
        return made

    @property
    def root_version(self) -> int:
        """Of the newest root."""
        return self._metadata.root_version

    @property
    def root_path(self) -> Path:
        """The newest root: what a new device is given to trust."""
        return self._metadata.root_path

    def add(self, bundle: Path, *, version: str, name: str | None = None, ranking_changes: bool = False) -> str:
        """Sign a bundle as a release; devices hear of it with the next `publish`.

        Args:
            bundle: A tar of wheels and ``requirements.txt``.
            version: For people.
            name: What to call it; by default the file's name.
            ranking_changes: Whether it is meant to rank otherwise than the release before.

        Returns:
            Its name.

        Raises:
            ReleaseError: If there is no such file, it is too large, or the name is taken by another bundle.
        """
        name = check_name(name or bundle.name, "release")
        try:
            data = bundle.read_bytes()
        except OSError as error:
            raise ReleaseError(f"bundle {bundle}: {error.strerror}") from error
        if not 1 <= len(data) <= MAX_BLOB_BYTES:
            raise ReleaseError(f"bundle {bundle}: {len(data)} bytes, at most {MAX_BLOB_BYTES} travel")
        targets = self._metadata.targets()
        sha256 = hashlib.sha256(data).hexdigest()
        if name in targets.targets and targets.targets[name].hashes["sha256"] != sha256:
            raise ReleaseError(f"release {name} is another bundle already; give this one another name")
        numbers = [int((target.custom or {})["number"]) for target in targets.targets.values()]
        custom = {"number": max(numbers, default=0) + 1, "version": version}
        ranking = {"ranking": "changes"} if ranking_changes else {}
        fields = {"custom": {**custom, **ranking}}
        targets.targets[name] = TargetFile(len(data), {"sha256": sha256}, name, unrecognized_fields=fields)
        bundles = make_private_directory(self._directory / "bundles")
        shutil.copyfile(bundle, bundles / name)
        targets.version += 1
        self._write_targets(targets)
        return name

    def publish(self) -> None:
        """Sign what is newest, and prolong the time for which that may be believed.

        Raises:
            ReleaseError: If a key is missing.
        """
        targets = self._metadata.targets()
        if not self._metadata.newest_is_signed(Targets.type):
            targets.version += 1
            self._write_targets(targets)
        snapshots = self._metadata.versions(Snapshot.type)
        snapshot = Snapshot(max(snapshots, default=0) + 1, expires=_expiry(Snapshot.type))
        snapshot.meta = {"targets.json": MetaFile(targets.version)}
        self._metadata.write(Metadata(snapshot))
        before = self._metadata.timestamp().version if self._metadata.timestamp_path.exists() else 0
        newest = Timestamp(before + 1, expires=_expiry(Timestamp.type), snapshot_meta=MetaFile(snapshot.version))
        self._metadata.write(Metadata(newest))

    def stage_root(self, replaced: str | None = None) -> Path:
        """Make a root that lives longer, and has a new key in place of one; it counts once enough root keys signed it.

        Args:
            replaced: ``root-N``, ``targets``, ``snapshot`` or ``timestamp``; None to replace none.

        Raises:
            ReleaseError: If there is no such key.
        """
        root = next_root(self._metadata.root(), self._keys, replaced=replaced, expires=_expiry(Root.type))
        staged = self._directory / _STAGED
        write_private(staged, root.to_bytes())
        return staged

    def sign_root(self, key: Path) -> tuple[int, bool]:
        """Add a root key's signature to the staged root; with enough of them it becomes the root.

        Returns:
            How many signatures it has, and whether these are enough.

        Raises:
            ReleaseError: If nothing is staged, or the key is no root key, old or new.
        """
        staged_path, signer = self._directory / _STAGED, load_key(key)
        if not staged_path.exists():
            raise ReleaseError(f"nothing waits for signatures in {self._directory}: see `coda release root`")
        staged, current = self._metadata.read(staged_path), self._metadata.root()
        if signer.public_key.keyid not in {*keyids(staged.signed, Root.type), *keyids(current, Root.type)}:
            raise ReleaseError(f"key {key} is no root key, neither now nor in the staged root")
        staged.sign(signer, append=True)
        result = staged.signed.get_root_verification_result(current, staged.signed_bytes, staged.signatures)
        write_private(staged_path, staged.to_bytes())
        if result.verified:
            self._metadata.write_root(staged)
            staged_path.unlink()
        return len(staged.signatures), bool(result.verified)

    def metadata(self) -> bytes:
        """What was published, as devices get it: every root, and the newest of the rest.

        Raises:
            OversizeError: If there are too many roots to travel.
        """
        folder, timestamp = self._metadata.folder, self._metadata.timestamp()
        snapshot_name = f"{timestamp.snapshot_meta.version}.snapshot.json"
        snapshot = self._metadata.load(folder / snapshot_name, Snapshot)
        targets_name = f"{snapshot.meta['targets.json'].version}.targets.json"
        names = [self._metadata.timestamp_path.name, snapshot_name, targets_name]
        names += [f"{version}.root.json" for version in self._metadata.versions(Root.type)]
        return pack_metadata({name: (folder / name).read_bytes() for name in names})

    def releases(self) -> dict[str, dict[str, Any]]:
        """Every signed release by name: ``number``, ``version``, ``sha256``, ``size_bytes``, ``ranking``."""
        found = {}
        for name, target in self._metadata.targets().targets.items():
            size = {"sha256": target.hashes["sha256"], "size_bytes": target.length}
            found[name] = {"ranking": "same", **(target.custom or {}), **size}
        return found

    def expiries(self) -> dict[str, datetime]:
        """When each role's newest metadata end."""
        newest = self._metadata
        snapshot = newest.load(newest.newest(Snapshot.type), Snapshot)
        return {one.type: one.expires for one in (newest.root(), newest.targets(), newest.timestamp(), snapshot)}

    def bundle(self, name: str) -> bytes:
        """A release's bundle.

        Raises:
            ReleaseError: If it is not here, or no longer what was signed.
        """
        target = self._metadata.targets().targets.get(name)
        if target is None:
            raise ReleaseError(f"no release {name[:80]!r}: see `coda release list`")
        path = self._directory / "bundles" / name
        try:
            data = path.read_bytes()
            target.verify_length_and_hashes(data)
        except OSError as error:
            raise ReleaseError(f"bundle {path}: {error.strerror}") from error
        except RepositoryError as error:
            raise ReleaseError(f"bundle {path} is not what was signed: {error}") from error
        return data

    def _write_targets(self, targets: Targets) -> None:
        targets.expires = _expiry(Targets.type)
        self._metadata.write(Metadata(targets))


def _expiry(role: str) -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) + LIFETIMES[role]
