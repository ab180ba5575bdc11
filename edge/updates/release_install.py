"""Installing a release beside the one that runs: a virtual environment from the bundle's own wheels, offline."""

from __future__ import annotations

import contextlib
import lzma
import os
import shutil
import subprocess
import tarfile
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.errors import StoppedError, UpdateError
from edge.storage.disk import probe
from edge.updates.release_state import COMPLETE, ReleaseFolder
from hardware.durable import sync

MAX_UNPACKED_BYTES = 512 << 20
DISK_FACTOR = 6  # of the bundle: the archive, its wheels, and the installed files, which are not compressed
_LOOK_S = 0.5
_REQUIREMENTS = "requirements.txt"


class Installer:
    """Installs one release at a time.

    Args:
        folder: The device's releases.
        python: The interpreter to make environments with.
        stop: Ends an installation that is under way.
        on_wait: Called again and again meanwhile.
    """

    def __init__(
        self, folder: ReleaseFolder, python: str, stop: threading.Event, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = folder
        self._python = python
        self._stop = stop
        self._on_wait = on_wait

    def install(self, bundle: Path, name: str) -> None:
        """Install a bundle, whole or not at all: what was left of an earlier attempt is deleted first.

        Raises:
            UpdateError: If it is no bundle, does not install here, or does not even start.
            StoppedError: If told to stop.
            OSError: If the disk fails.
        """
        place, wheels = self._folder.folder(name), self._folder.path / ".wheels"
        for path in (place, wheels):
            shutil.rmtree(path, ignore_errors=True)
        try:
            unpack(bundle, wheels)
            self._run("making its environment", [self._python, "-I", "-m", "venv", "--without-pip", str(place)])
            pip = self._pip(self._folder.python(name), wheels)
            requirements = ["--require-hashes", "--no-deps", "-r", str(wheels / _REQUIREMENTS)]  # the list is whole
            quiet = ["--disable-pip-version-check", "--no-cache-dir", "--no-input", "-q"]
            self._run("installing", [*pip, "install", *quiet, "--no-index", "--find-links", str(wheels), *requirements])
            self._run("starting it", [str(self._folder.python(name)), "-I", "-m", "edge", "--help"])
        except (UpdateError, OSError) as error:
            fault = probe(self._folder.path)  # before there is room again: a full disk is not the bundle's fault
            shutil.rmtree(place, ignore_errors=True)
            if fault is not None and isinstance(error, UpdateError):
                raise OSError(f"the disk is {fault.value}: {error}") from error
            raise
        finally:
            shutil.rmtree(wheels, ignore_errors=True)
        os.sync()  # thousands of files; the mark must not outlive one of them
        (place / COMPLETE).touch()
        sync(place)
        sync(self._folder.path)

    def _pip(self, python: Path, wheels: Path) -> list[str]:
        """As first boot does: a bundle brings pip's own wheel, which runs as it is; else the system's."""
        found = sorted(wheels.glob("pip-*.whl"))
        if found:
            return [str(python), f"{found[-1]}/pip"]
        self._run("looking for pip", [str(python), "-I", "-m", "ensurepip"])
        return [str(python), "-I", "-m", "pip"]

    def _run(self, what: str, command: Sequence[str]) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        ) as process:
            said = None
            while said is None:
                self._on_wait()
                if self._stop.is_set():
                    process.kill()
                    raise StoppedError("told to stop")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    said = process.communicate(timeout=_LOOK_S)[0]
        if process.returncode != 0:
            raise UpdateError(f"{what} failed with code {process.returncode}: {_gist(said.decode('utf-8', 'replace'))}")


def _gist(said: str) -> str:
    """What a program's output comes to: its first error and its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    first = next((line for line in lines if "error" in line.lower()), lines[-1])
    return first[:300] if first == lines[-1] else f"{first[:300]} | {lines[-1][:200]}"


def unpack(bundle: Path, folder: Path) -> None:
    """The wheels and requirements of a bundle, side by side whatever folders it has; nothing else of it is written.

    Raises:
        UpdateError: If it is no bundle, or is larger than `MAX_UNPACKED_BYTES`.
    """
    folder.mkdir(parents=True, mode=0o700)
    left_bytes = MAX_UNPACKED_BYTES
    try:
        with tarfile.open(bundle) as archive:
            for member in archive:
                name = Path(member.name).name
                if not member.isreg() or not (name.endswith(".whl") or name == _REQUIREMENTS):
                    continue
                left_bytes -= member.size
                source = archive.extractfile(member)
                if left_bytes < 0 or source is None:
                    raise UpdateError(f"the bundle unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB")
                with source, (folder / name).open("wb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UpdateError(f"the bundle is no archive: {error}") from error
    if not (folder / _REQUIREMENTS).is_file() or not any(folder.glob("*.whl")):
        raise UpdateError(f"the bundle holds no wheels, or no {_REQUIREMENTS} with their hashes")
