"""A folder of signed metadata, as The Update Framework names its files: ``N.role.json``, and ``timestamp.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from cloud_broker.errors import ReleaseError
from cloud_broker.releases.keys import key_path, load_key
from hardware.durable import write_private

_TIMESTAMP = "timestamp.json"

_Signed = TypeVar("_Signed", Root, Targets, Snapshot, Timestamp)


class ReleaseMetadata:
    """The metadata in a folder, read by role and version, and written only with a signature that the root accepts.

    Attributes:
        folder: Where they are.
        root_version: Of the newest root.

    Raises:
        ReleaseError: If there is no root, or what is read is damaged.
    """

    def __init__(self, folder: Path, keys: Path) -> None:
        """Look at ``folder``; what is written is signed with the keys in ``keys``."""
        self.folder = folder
        self._keys = keys
        versions = self.versions(Root.type)
        if not versions:
            raise ReleaseError(f"no releases in {folder.parent}: make a place for them with `coda release init`")
        self.root_version = max(versions)

    @property
    def root_path(self) -> Path:
        """The newest root."""
        return self.folder / f"{self.root_version}.root.json"

    @property
    def timestamp_path(self) -> Path:
        """The only file whose name has no version."""
        return self.folder / _TIMESTAMP

    def root(self) -> Root:
        """The newest root."""
        return self.load(self.root_path, Root)

    def targets(self) -> Targets:
        """The newest list of releases."""
        return self.load(self.newest(Targets.type), Targets)

    def timestamp(self) -> Timestamp:
        """What says which snapshot is the newest."""
        return self.load(self.timestamp_path, Timestamp)

    def versions(self, role: str) -> list[int]:
        """Versions that are there, in order."""
        return sorted(int(path.name.partition(".")[0]) for path in self.folder.glob(f"*.{role}.json"))

    def newest(self, role: str) -> Path:
        """The file with a role's highest version."""
        versions = self.versions(role)
        if not versions:
            raise ReleaseError(f"{self.folder} holds no {role} metadata: its making was cut short; begin anew")
        return self.folder / f"{versions[-1]}.{role}.json"

    def load(self, path: Path, kind: type[_Signed]) -> _Signed:
        """What a file says, which must be of a kind."""
        signed = self.read(path).signed
        if not isinstance(signed, kind):
            raise ReleaseError(f"{path} holds {signed.type} metadata, not {kind.type}")
        return signed

    def read(self, path: Path) -> Metadata[Any]:
        """What a file says, with its signatures."""
        try:
            return Metadata.from_bytes(path.read_bytes())
        except OSError as error:
            raise ReleaseError(f"{path}: {error.strerror}") from error
        except RepositoryError as error:
            raise ReleaseError(f"{path} is damaged: {error}") from error

    def write(self, metadata: Metadata[Any]) -> None:
        """Sign with the role's key, and write under the role's name and version.

        Raises:
            ReleaseError: If the key is missing, or is not the one that the root names.
        """
        role, version = metadata.signed.type, metadata.signed.version
        metadata.sign(load_key(key_path(self._keys, role)))
        if not self._accepts(role, metadata):
            raise ReleaseError(f"key {key_path(self._keys, role)} is not the one that the root names for {role}")
        name = _TIMESTAMP if role == Timestamp.type else f"{version}.{role}.json"
        write_private(self.folder / name, metadata.to_bytes())

    def write_root(self, root: Metadata[Any]) -> None:
        """Make a root, which has its signatures, the newest."""
        write_private(self.folder / f"{root.signed.version}.root.json", root.to_bytes())
        self.root_version = root.signed.version

    def newest_is_signed(self, role: str) -> bool:
        """Whether the root accepts the signature on a role's newest metadata; not where its key was replaced since."""
        return self._accepts(role, self.read(self.newest(role)))

    def _accepts(self, role: str, metadata: Metadata[Any]) -> bool:
        return bool(self.root().get_verification_result(role, metadata.signed_bytes, metadata.signatures).verified)
