"""Fetch a dataset from its owner: bounded, checked against its published digest, whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from evaluation.errors import DataError, DataIntegrityError, DataUnavailableError
from evaluation.movielens import check_sha256

MAX_ARCHIVE_BYTES = 256 << 20
MAX_FILE_BYTES = 1 << 30
TIMEOUT_S = 20.0
_BLOCK_BYTES = 1 << 16

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes so far and in all; the latter is None where the server does not say."""


def download(
    url: str,
    folder: Path,
    *,
    members: tuple[str, ...],
    ratings_sha256: str | None = None,
    archive_md5: str | None = None,
    progress: Progress | None = None,
    opener: Callable[..., object] | None = None,
) -> Path:
    """Fetch a zip archive and leave the wanted files in ``folder``, which appears only once all is checked.

    Args:
        url: Of the archive.
        folder: Where the files shall be; its parents are made.
        members: Base names of the wanted files, the ratings first.
        ratings_sha256: What the first of them must hash to, where that is known.
        archive_md5: What the archive must hash to; its owner publishes MD5, which finds damage, not malice.
        progress: Told as bytes arrive.
        opener: Stands in for `urllib.request.urlopen`.

    Raises:
        DataUnavailableError: If the network or the disk does not allow it.
        DataIntegrityError: If what arrived is not the published archive.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
            archive, files = Path(scratch) / "archive.zip", Path(scratch) / "files"
            _fetch(url, archive, progress, opener or urllib.request.urlopen)
            if archive_md5 is not None:
                _check_md5(archive, archive_md5, url)
            _extract(archive, files, members)
            if ratings_sha256 is not None:
                check_sha256(files / members[0], ratings_sha256)
            _put_in_place(files, folder)
    except DataError:
        raise
    except OSError as error:
        raise DataUnavailableError(
            f"{url}: could not be fetched ({error}); check the network, or put a copy in $CODA_DATA/{folder.name}"
        ) from error
    return folder


def _fetch(url: str, target: Path, progress: Progress | None, opener: Callable[..., object]) -> None:
    with opener(url, timeout=TIMEOUT_S) as response, target.open("wb") as file:  # type: ignore[attr-defined]
        length = response.headers.get("Content-Length")
        total, done = int(length) if length else None, 0
        while block := response.read(_BLOCK_BYTES):
            done += len(block)
            if done > MAX_ARCHIVE_BYTES:
                raise DataIntegrityError(f"{url}: larger than {MAX_ARCHIVE_BYTES} bytes, so not the published archive")
            file.write(block)
            if progress is not None:
                progress(done, total)
    if total is not None and done != total:
        raise DataUnavailableError(f"{url}: the connection broke after {done} of {total} bytes; try again")


def _check_md5(archive: Path, expected: str, url: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with archive.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise DataIntegrityError(
            f"{url}: MD5 {digest.hexdigest()}, published {expected}: damaged on the way; try again"
        )


def _extract(archive: Path, files: Path, members: tuple[str, ...]) -> None:
    # Names inside the archive choose nothing: files are looked up by base name and written under ours.
    files.mkdir()
    try:
        with zipfile.ZipFile(archive) as bundle:
            found = {Path(entry.filename).name: entry for entry in bundle.infolist() if not entry.is_dir()}
            for name in members:
                if name not in found:
                    raise DataIntegrityError(
                        f"{archive.name}: the archive has no {name}, so it is not the published one"
                    )
                _extract_one(bundle, found[name], files / name)
    except zipfile.BadZipFile as error:
        raise DataIntegrityError(f"{archive.name}: not a whole zip archive ({error}); try again") from error


def _extract_one(bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    left = MAX_FILE_BYTES
    with bundle.open(entry) as source, target.open("wb") as file:
        while block := source.read(min(_BLOCK_BYTES, left + 1)):
            left -= len(block)
            if left < 0:
                raise DataIntegrityError(f"{entry.filename}: unpacks to more than {MAX_FILE_BYTES} bytes")
            file.write(block)


def _put_in_place(files: Path, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    files.replace(folder)
