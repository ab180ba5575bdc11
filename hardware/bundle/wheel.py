"""What a wheel is, read from its name and its metadata; nothing in it is run."""

from __future__ import annotations

import hashlib
import marshal
import re
import warnings
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from functools import cached_property
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from hardware.bundle.boards import Target
from hardware.errors import BundleError

_PYC_HEADER_BYTES = 16


@dataclass(frozen=True)
class Wheel:
    """One wheel on disk.

    Raises:
        BundleError: On creation, if the file's name is not a wheel's; later, if it is no ZIP with metadata.
    """

    path: Path

    def __post_init__(self) -> None:
        try:
            parse_wheel_filename(self.path.name)
        except InvalidWheelFilename as error:
            raise BundleError(f"{self.path}: no wheel: {error}") from error

    @property
    def name(self) -> str:
        """The project's name, normalised (PEP 503)."""
        return str(parse_wheel_filename(self.path.name)[0])

    @property
    def version(self) -> str:
        """Its version, without a build tag."""
        return str(parse_wheel_filename(self.path.name)[1])

    @cached_property
    def sha256(self) -> str:
        """Of the file, in hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @cached_property
    def metadata(self) -> Message:
        """Its core metadata, headers alone."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                [name] = [one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one)]
                return HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise BundleError(f"{self.path}: no wheel with metadata: {error}") from error

    @property
    def licence(self) -> str | None:
        """An SPDX expression (PEP 639) or the name that older metadata states; None where it states none."""
        classifiers = [value for value in self.metadata.get_all("Classifier", []) if value.startswith("License :: ")]
        stated = str(self.metadata.get("License", "")).strip()
        named = [value.rsplit(" :: ", 1)[1] for value in classifiers]
        # Some put the licence's whole text where its name belongs.
        candidates = [self.metadata.get("License-Expression"), stated if "\n" not in stated else None, *named]
        return next((str(value) for value in candidates if value), None)

    def needs(self, target: Target, extra: str = "") -> list[Requirement]:
        """What it requires on a machine, with an extra, markers evaluated."""
        asked = [Requirement(str(value)) for value in self.metadata.get_all("Requires-Dist", [])]
        environment = {**target.environment, "extra": extra}
        return [one for one in asked if one.marker is None or one.marker.evaluate(environment)]

    def installed_bytes(self) -> tuple[int, int]:
        """Bytes of its files, and of the bytecode that pip compiles beside them (as this Python's compiler has it)."""
        files = bytecode = 0
        with zipfile.ZipFile(self.path) as archive:
            for entry in archive.infolist():
                files += entry.file_size
                if entry.filename.endswith(".py"):
                    bytecode += _compiled_bytes(archive.read(entry), entry.filename)
        return files, bytecode


def find(wheels: list[Wheel], name: str) -> Wheel:
    """The wheel of a project.

    Raises:
        BundleError: If there is none.
    """
    for wheel in wheels:
        if wheel.name == canonicalize_name(name):
            return wheel
    raise BundleError(f"no wheel of {name} among {', '.join(one.path.name for one in wheels) or 'none'}")


def _compiled_bytes(source: bytes, name: str) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their style is not our user's business
        try:
            return len(marshal.dumps(compile(source, name, "exec", dont_inherit=True))) + _PYC_HEADER_BYTES
        except (SyntaxError, ValueError):  # a template, or for another Python: pip leaves it as it is
            return 0
