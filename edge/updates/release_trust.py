"""Whether an offered release is what the holders of the keys signed: The Update Framework's client, over a blob.

The check runs in a process of its own, `python -m edge.updates.release_trust`, for less than a second: the framework
would cost the service 13 MB for good. No network is used; the files come from the tunnel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge.errors import UpdateError, UpdateRefusedError
from edge.updates.release_state import ReleaseFolder
from protocol.errors import ProtocolError
from protocol.messages import BlobRef
from protocol.releases import unpack_metadata

CHECK_S = 120.0
MAX_ROOT_BYTES = 512 << 10
_REFUSED = 3  # exit code: what is on standard output says why


@dataclass(frozen=True)
class Trusted:
    """A release as its signers describe it.

    Attributes:
        bundle: Its archive.
        number: Rises from release to release, whatever their versions.
        version: Its version, for people.
        same_ranking: Whether it has to rank as the one before.
    """

    bundle: BlobRef
    number: int
    version: str
    same_ranking: bool

    @property
    def name(self) -> str:
        """Its folder's name."""
        return f"r{self.number}-{self.bundle.sha256[:12]}"


def check(folder: ReleaseFolder, root: Path, metadata: Path, target: str, passed_s: float) -> Trusted:
    """See that an offer is signed, current, and no older than what was seen before.

    Args:
        folder: Keeps what was seen before.
        root: The root of trust that the device was given.
        metadata: The metadata as they came.
        target: What was offered.
        passed_s: The time that has surely passed, in seconds since 1970: what ended before it is refused, whatever the
            wall clock says.

    Raises:
        UpdateRefusedError: If the signatures do not vouch for it.
        UpdateError: If it could not be found out.
    """
    trust = folder.path / "trust"
    trust.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-I", "-m", "edge.updates.release_trust"]
    given = [str(trust), str(root), str(metadata), target, repr(passed_s)]
    try:
        done = subprocess.run([*command, *given], capture_output=True, text=True, timeout=CHECK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UpdateError(f"its signatures could not be checked: {error}") from error
    if done.returncode not in {0, _REFUSED}:
        raise UpdateError(f"its signatures could not be checked: {done.stderr.strip()[-300:]}")
    try:
        said = json.loads(done.stdout)
        if done.returncode == _REFUSED:
            raise UpdateRefusedError(said["refused"])
        return Trusted(BlobRef(said["sha256"], said["size_bytes"]), said["number"], said["version"], said["same"])
    except (ValueError, KeyError, TypeError, ProtocolError) as error:
        raise UpdateRefusedError(f"what is signed is no release: {error}") from error


def main(arguments: list[str]) -> int:
    """The child process: prints what was found, as JSON."""
    trust, root, metadata, target, passed_s = arguments
    try:
        found = _verify(Path(trust), Path(root), Path(metadata).read_bytes(), target)
        _see_current(Path(trust), float(passed_s))
    except (UpdateRefusedError, ProtocolError) as error:
        sys.stdout.write(json.dumps({"refused": str(error)}))
        return _REFUSED
    os.sync()  # what was seen must not be forgotten with the power, or an older offer would be believed
    sys.stdout.write(json.dumps(found))
    return 0


def _verify(trust: Path, root: Path, packed: bytes, target: str) -> dict[str, Any]:
    from tuf.api import exceptions  # noqa: PLC0415 - see above
    from tuf.ngclient import FetcherInterface, Updater  # noqa: PLC0415

    class FromBlob(FetcherInterface):
        def __init__(self, files: Mapping[str, bytes]) -> None:
            self._files = files

        def _fetch(self, url: str) -> Iterator[bytes]:
            content = self._files.get(url.rpartition("/")[2])
            if content is None:
                raise exceptions.DownloadHTTPError(f"{url} is not among the metadata", 404)
            return iter([content])

    why = (
        (exceptions.ExpiredMetadataError, "expired (or this device's clock is wrong)"),
        (exceptions.BadVersionNumberError, "older than what this device has seen, a replay"),
        (exceptions.UnsignedMetadataError, "not signed by the keys that are trusted"),
        (exceptions.DownloadError, "not whole"),
        (exceptions.RepositoryError, "not consistent"),
    )
    files = unpack_metadata(packed)
    try:
        updater = Updater(str(trust), "tunnel:/", fetcher=FromBlob(files), bootstrap=root.read_bytes()[:MAX_ROOT_BYTES])
        updater.refresh()
        found = updater.get_targetinfo(target)
    except (exceptions.RepositoryError, exceptions.DownloadError) as error:
        reason = next(text for kind, text in why if isinstance(error, kind))
        raise UpdateRefusedError(f"its metadata are {reason}: {error}") from error
    if found is None:
        raise UpdateRefusedError(f"the signed metadata do not name {target}")
    custom = found.custom if isinstance(found.custom, dict) else {}
    number = custom.get("number")
    if type(number) is not int or not 1 <= number < 10**12:
        raise UpdateRefusedError(f"the signed metadata give {target} no number")
    return {
        "sha256": found.hashes.get("sha256"),
        "size_bytes": found.length,
        "number": number,
        "version": str(custom.get("version"))[:64],
        "same": custom.get("ranking") != "changes",
    }


def _see_current(trust: Path, passed_s: float) -> None:
    """The framework asks the wall clock alone, and whoever sets that back could offer what is long over."""
    from tuf.api.metadata import Metadata  # noqa: PLC0415 - see above

    at = datetime.fromtimestamp(passed_s, timezone.utc)
    for role in ("root", "timestamp", "snapshot", "targets"):
        signed = Metadata[Any].from_bytes((trust / f"{role}.json").read_bytes()).signed
        if signed.is_expired(at):
            ended = f"{role} ended {signed.expires:%Y-%m-%d %H:%M}, and it is {at:%Y-%m-%d %H:%M} UTC at least"
            raise UpdateRefusedError(f"its metadata are expired: {ended}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
