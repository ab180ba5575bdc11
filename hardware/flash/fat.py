"""Files in a FAT file system that lies in a file, by mtools: no mount, no root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath

from hardware.errors import ImageError, SeedError

# The checks of geometry that a partition cut out of its disk fails, and a locale in which names are bytes as given.
_ENVIRONMENT = {"MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
_TIMEOUT_S = 120.0  # a bundle of 120 MB takes seconds; in a chain of clusters that loops, mcopy writes for ever


class Fat:
    """A FAT file system in a file. Contents go through pipes, so no secret is in an argument or a second file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> frozenset[str]:
        """Files and folders at the top, in lower case.

        Raises:
            ImageError: If this is no FAT file system.
        """
        listed = _run("mdir", "-i", str(self._path), "-b", "::/")
        if listed.returncode != 0 or b"loop detected" in listed.stderr:
            raise ImageError(f"the boot partition cannot be read: {_said(listed)}")
        lines = listed.stdout.decode("utf-8", "replace").splitlines()
        return frozenset(line.removeprefix("::/").rstrip("/").lower() for line in lines if line.startswith("::/"))

    def read(self, name: str) -> bytes:
        """A file's contents.

        Raises:
            ImageError: If it is not there or cannot be read.
        """
        done = _run("mcopy", "-i", str(self._path), f"::/{name}", "-")
        if done.returncode != 0:
            raise ImageError(f"{name} on the boot partition: {_said(done)}")
        return done.stdout

    def write(self, name: str, content: bytes | Path) -> None:
        """Put a file in place of the one that is there, with the folders above it.

        Raises:
            SeedError: If there is no room.
        """
        for folder in reversed(PurePosixPath(name).parents[:-1]):
            if _run("mdir", "-i", str(self._path), "-b", f"::/{folder}").returncode != 0:
                self._do("mmd", f"::/{folder}")
        if isinstance(content, Path):
            self._do("mcopy", "-o", str(content), f"::/{name}")
        else:
            self._do("mcopy", "-o", "-", f"::/{name}", given=content)

    def _do(self, tool: str, *arguments: str, given: bytes = b"") -> None:
        flags = [argument for argument in arguments if argument == "-o"]
        rest = [argument for argument in arguments if argument != "-o"]
        done = _run(tool, *flags, "-i", str(self._path), *rest, given=given)
        # mcopy reports a full disk on stderr, and some versions end with 0 nevertheless.
        if done.returncode != 0 or b"full" in done.stderr.lower():
            raise SeedError(f"{arguments[-1].removeprefix('::/')} does not go onto the boot partition: {_said(done)}")


def _run(tool: str, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which(tool)
    if program is None:
        raise SeedError("mtools is missing; install it: apt-get install mtools (dnf, pacman, brew: the same name)")
    environment = {**os.environ, **_ENVIRONMENT}
    try:
        return subprocess.run(
            [program, *arguments], input=given, capture_output=True, timeout=_TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        detail = f"{tool} came to no end in {_TIMEOUT_S:g} s: its file system is damaged"
        raise ImageError(f"the boot partition: {detail}; download the image again") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(done.stderr.decode("utf-8", "replace").split())[:300] or f"exit code {done.returncode}"
