"""The root of releases: whose keys count, how many root keys must sign, and how one key takes another's place."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Key, Metadata, Root, Snapshot, Targets, Timestamp

from cloud_broker.errors import ReleaseError
from cloud_broker.releases.keys import key_path, new_key

ONLINE_ROLES = (Targets.type, Snapshot.type, Timestamp.type)
MAX_ROOT_KEYS = 9


def first_root(keys: Path, *, root_keys: int, threshold: int, expires: datetime) -> Metadata[Any]:
    """Make every key, and a root that names them, signed by all of its own.

    Args:
        keys: Where to keep the private keys.
        root_keys: How many keys the root has.
        threshold: How many of them must sign a root.
        expires: When it ends.

    Raises:
        ReleaseError: If the numbers make no sense.
    """
    if not 1 <= threshold <= root_keys <= MAX_ROOT_KEYS:
        raise ReleaseError(f"{threshold} of {root_keys} root keys: 1 to {MAX_ROOT_KEYS} keys, and not more to sign")
    root = Root(consistent_snapshot=True, expires=expires)
    signers = {name: new_key(keys, name) for name in (f"root-{number}" for number in range(1, root_keys + 1))}
    for name, signer in signers.items():
        root.add_key(_named(signer.public_key, name), Root.type)
    root.roles[Root.type].threshold = threshold
    for role in ONLINE_ROLES:
        root.add_key(_named(new_key(keys, role).public_key, role), role)
    signed = Metadata(root)
    for signer in signers.values():
        signed.sign(signer, append=True)
    return signed


def next_root(root: Root, keys: Path, *, replaced: str | None, expires: datetime) -> Metadata[Any]:
    """The root after ``root``, yet without signatures; it becomes what is returned.

    Args:
        root: The newest.
        keys: Where the private keys are; one that is replaced stays there under another name.
        replaced: ``root-N``, ``targets``, ``snapshot`` or ``timestamp``, which gets a new key; None to replace none.
        expires: When it ends.

    Raises:
        ReleaseError: If there is no such key.
    """
    root.version += 1
    root.expires = expires
    if replaced is not None:
        role = Root.type if replaced.startswith("root-") else replaced
        old = [keyid for keyid in keyids(root, role) if _name(root.keys[keyid]) == replaced]
        if not old:
            raise ReleaseError(f"no key {replaced}: there are {', '.join(sorted(map(_name, root.keys.values())))}")
        path = key_path(keys, replaced)
        if path.exists():
            path.replace(path.with_suffix(f".replaced-{root.version}"))
        root.revoke_key(old[0], role)
        root.add_key(_named(new_key(keys, replaced).public_key, replaced), role)
    return Metadata(root)


def keyids(root: Root, role: str) -> list[str]:
    """Ids of the keys that may sign for a role."""
    return list(root.roles[role].keyids) if role in root.roles else []


def _named(key: Key, name: str) -> Key:
    """A public key that says which one it is; its id does not change."""
    key.unrecognized_fields["x-coda-name"] = name
    return key


def _name(key: Key) -> str:
    return str(key.unrecognized_fields.get("x-coda-name", "unnamed"))
