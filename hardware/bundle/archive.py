"""A tar archive whose bytes depend on its files' names and contents alone."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

# 2 February 2020, the moment that hatchling gives to a wheel's files too.
_DEFAULT_EPOCH_S = 1580601600


def epoch_s() -> int:
    """The moment that everything in a bundle bears: ``SOURCE_DATE_EPOCH`` where it is set, else always the same."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or _DEFAULT_EPOCH_S)


def write_tar(path: Path, files: Mapping[str, bytes | Path]) -> None:
    """Write files into an uncompressed archive: sorted, owned by root, mode 0644, all at one moment.

    The archive takes its name only when it is whole.
    """
    unfinished = path.with_name(path.name + ".part")
    with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in sorted(files.items()):
            data = content.read_bytes() if isinstance(content, Path) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(data), epoch_s(), 0o644
            tar.addfile(entry, io.BytesIO(data))
    unfinished.replace(path)
