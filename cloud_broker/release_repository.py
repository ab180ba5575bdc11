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
from typing import Any, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Key, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from cloud_broker.errors import ReleaseError
from cloud_broker.files import make_private_directory
from cloud_broker.release_keys import key_path, load_key, new_key
from hardware.durable import write_private
from protocol.releases import pack_metadata
from protocol.topics import MAX_BLOB_BYTES, check_name

LIFETIMES = {
    Root.type: timedelta(days=365),
    Targets.type: timedelta(days=365),
    Snapshot.type: timedelta(days=60),
    Timestamp.type: timedelta(days=60),  # how long a device may be kept from hearing of newer releases
}
ONLINE_ROLES = (Targets.type, Snapshot.type, Timestamp.type)
MAX_ROOT_KEYS = 9
_STAGED = "staged.json"

_Signed = TypeVar("_Signed", Root, Targets, Snapshot, Timestamp)


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
        self._metadata = directory / "metadata"
        self._keys = keys
        versions = [int(path.name.partition(".")[0]) for path in self._metadata.glob("*.root.json")]
        if not versions:
            raise ReleaseError(f"no releases in {directory}: make a place for them with `coda release init`")
        self.root_version = max(versions)

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
        if not 1 <= threshold <= root_keys <= MAX_ROOT_KEYS:
            raise ReleaseError(f"{threshold} of {root_keys} root keys: 1 to {MAX_ROOT_KEYS} keys, and not more to sign")
        metadata = directory / "metadata"
        if metadata.exists():
            raise ReleaseError(f"releases are in {directory} already")
        root = Root(consistent_snapshot=True, expires=_expiry(Root.type))
        signers = [new_key(keys, f"root-{number}") for number in range(1, root_keys + 1)]
        for signer in signers:
            root.add_key(_named(signer.public_key, f"root-{signers.index(signer) + 1}"), Root.type)
        root.roles[Root.type].threshold = threshold
        for role in ONLINE_ROLES:
            root.add_key(_named(new_key(keys, role).public_key, role), role)
        signed = Metadata(root)
        for signer in signers:
            signed.sign(signer, append=True)
        make_private_directory(metadata)
        write_private(metadata / "1.root.json", signed.to_bytes())
        made = cls(directory, keys)
        made._write_targets(Targets(expires=_expiry(Targets.type)))
        made.publish()
        return made

    @property
    def root_path(self) -> Path:
        """The newest root: what a new device is given to trust."""
        return self._metadata / f"{self.root_version}.root.json"

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
        targets = self._newest_targets()
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
        targets = self._newest_targets()
        if not self._is_signed(Targets.type, self._newest(Targets.type)):  # its key was replaced since
            targets.version += 1
            self._write_targets(targets)
        snapshots, timestamp = self._versions(Snapshot.type), self._metadata / "timestamp.json"
        snapshot = Snapshot(max(snapshots, default=0) + 1, expires=_expiry(Snapshot.type))
        snapshot.meta = {"targets.json": MetaFile(targets.version)}
        self._write(Metadata(snapshot), f"{snapshot.version}.snapshot.json")
        before = self._load(timestamp, Timestamp).version if timestamp.exists() else 0
        newest = Timestamp(before + 1, expires=_expiry(Timestamp.type), snapshot_meta=MetaFile(snapshot.version))
        self._write(Metadata(newest), "timestamp.json")

    def stage_root(self, replaced: str | None = None) -> Path:
        """Make a root that lives longer, and has a new key in place of one; it counts once enough root keys signed it.

        Args:
            replaced: ``root-N``, ``targets``, ``snapshot`` or ``timestamp``; None to replace none.

        Raises:
            ReleaseError: If there is no such key.
        """
        signed: Metadata[Root] = self._read(self.root_path)
        root = signed.signed
        root.version += 1
        root.expires = _expiry(Root.type)
        if replaced is not None:
            role = Root.type if replaced.startswith("root-") else replaced
            old = [keyid for keyid in _keyids(root, role) if _name(root.keys[keyid]) == replaced]
            if not old:
                raise ReleaseError(f"no key {replaced}: there are {', '.join(sorted(map(_name, root.keys.values())))}")
            path = key_path(self._keys, replaced)
            if path.exists():
                path.replace(path.with_suffix(f".replaced-{root.version}"))
            root.revoke_key(old[0], role)
            root.add_key(_named(new_key(self._keys, replaced).public_key, replaced), role)
        staged = self._directory / _STAGED
        write_private(staged, Metadata(root).to_bytes())
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
        staged, current = self._read(staged_path), self._load(self.root_path, Root)
        if signer.public_key.keyid not in {*_keyids(staged.signed, Root.type), *_keyids(current, Root.type)}:
            raise ReleaseError(f"key {key} is no root key, neither now nor in the staged root")
        staged.sign(signer, append=True)
        result = staged.signed.get_root_verification_result(current, staged.signed_bytes, staged.signatures)
        write_private(staged_path, staged.to_bytes())
        if result.verified:
            write_private(self._metadata / f"{staged.signed.version}.root.json", staged.to_bytes())
            staged_path.unlink()
            self.root_version = staged.signed.version
        return len(staged.signatures), bool(result.verified)

    def metadata(self) -> bytes:
        """What was published, as devices get it: every root, and the newest of the rest.

        Raises:
            OversizeError: If there are too many roots to travel.
        """
        timestamp = self._load(self._metadata / "timestamp.json", Timestamp)
        snapshot_name = f"{timestamp.snapshot_meta.version}.snapshot.json"
        snapshot = self._load(self._metadata / snapshot_name, Snapshot)
        names = ["timestamp.json", snapshot_name, f"{snapshot.meta['targets.json'].version}.targets.json"]
        names += [f"{version}.root.json" for version in self._versions(Root.type)]
        return pack_metadata({name: (self._metadata / name).read_bytes() for name in names})

    def releases(self) -> dict[str, dict[str, Any]]:
        """Every signed release by name: ``number``, ``version``, ``sha256``, ``size_bytes``, ``ranking``."""
        found = {}
        for name, target in self._newest_targets().targets.items():
            size = {"sha256": target.hashes["sha256"], "size_bytes": target.length}
            found[name] = {"ranking": "same", **(target.custom or {}), **size}
        return found

    def expiries(self) -> dict[str, datetime]:
        """When each role's newest metadata end."""
        timestamp = self._load(self._metadata / "timestamp.json", Timestamp)
        newest = [self._load(self.root_path, Root), self._newest_targets(), timestamp]
        snapshot = self._read(self._newest(Snapshot.type)).signed
        return {one.type: one.expires for one in (*newest, snapshot)}

    def bundle(self, name: str) -> bytes:
        """A release's bundle.

        Raises:
            ReleaseError: If it is not here, or no longer what was signed.
        """
        target = self._newest_targets().targets.get(name)
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

    def _newest_targets(self) -> Targets:
        return self._load(self._newest(Targets.type), Targets)

    def _write_targets(self, targets: Targets) -> None:
        targets.expires = _expiry(Targets.type)
        self._write(Metadata(targets), f"{targets.version}.targets.json")

    def _write(self, metadata: Metadata[Any], name: str) -> None:
        role = metadata.signed.type
        metadata.sign(load_key(key_path(self._keys, role)))
        root = self._load(self.root_path, Root)
        if not root.get_verification_result(role, metadata.signed_bytes, metadata.signatures).verified:
            raise ReleaseError(f"key {key_path(self._keys, role)} is not the one that the root names for {role}")
        write_private(self._metadata / name, metadata.to_bytes())

    def _is_signed(self, role: str, path: Path) -> bool:
        metadata, root = self._read(path), self._load(self.root_path, Root)
        return bool(root.get_verification_result(role, metadata.signed_bytes, metadata.signatures).verified)

    def _versions(self, role: str) -> list[int]:
        return sorted(int(path.name.partition(".")[0]) for path in self._metadata.glob(f"*.{role}.json"))

    def _newest(self, role: str) -> Path:
        versions = self._versions(role)
        if not versions:
            raise ReleaseError(f"{self._metadata} holds no {role} metadata: its making was cut short; begin anew")
        return self._metadata / f"{versions[-1]}.{role}.json"

    def _load(self, path: Path, kind: type[_Signed]) -> _Signed:
        signed = self._read(path).signed
        if not isinstance(signed, kind):
            raise ReleaseError(f"{path} holds {signed.type} metadata, not {kind.type}")
        return signed

    def _read(self, path: Path) -> Metadata[Any]:
        try:
            return Metadata.from_bytes(path.read_bytes())
        except OSError as error:
            raise ReleaseError(f"{path}: {error.strerror}") from error
        except RepositoryError as error:
            raise ReleaseError(f"{path} is damaged: {error}") from error


def _expiry(role: str) -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) + LIFETIMES[role]


def _keyids(root: Root, role: str) -> list[str]:
    return list(root.roles[role].keyids) if role in root.roles else []


def _named(key: Key, name: str) -> Key:
    """A public key that says which one it is; its id does not change."""
    key.unrecognized_fields["x-coda-name"] = name
    return key


def _name(key: Key) -> str:
    return str(key.unrecognized_fields.get("x-coda-name", "unnamed"))
