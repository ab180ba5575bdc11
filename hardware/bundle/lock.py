"""Which wheels a bundle is made of, each by its digest: one file a target, kept with the code."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hardware.bundle import pip
from hardware.bundle.boards import Target
from hardware.bundle.wheel import Wheel
from hardware.errors import BundleError

LOCKS = Path(__file__).parent / "locks"
EXTRA = "edge"
# Runs from its own wheel on the first boot, and is not installed: Debian's python3 may come without one.
INSTALLER = "pip"
_LINE = re.compile(r"([a-z0-9][a-z0-9-]*)==(\S+) --hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """One wheel: its project, its version, and the SHA-256 of the file."""

    name: str
    version: str
    sha256: str

    @classmethod
    def of(cls, wheel: Wheel) -> Pin:
        """What pins a wheel."""
        return cls(wheel.name, wheel.version, wheel.sha256)

    def __str__(self) -> str:
        """A line of pip's requirements."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


def requirements(pins: Sequence[Pin], comment: str) -> str:
    """The text of a file of requirements that pip takes with ``--require-hashes``, sorted."""
    lines = sorted(str(pin) for pin in pins)
    return "\n".join([f"# {comment}", *lines, ""])


def path_of(target: Target, locks: Path = LOCKS) -> Path:
    """Where a target's lock lies, whether or not it is there."""
    return locks / f"{target.name}.txt"


def resolve(target: Target, own: Wheel, indexes: Sequence[str] = ()) -> list[Pin]:
    """The newest wheels that fit a target and each other, without CoDA Edge's own.

    Args:
        target: For which machine.
        own: CoDA Edge's wheel, whose extra ``edge`` says what a device needs.
        indexes: Package indexes besides those that pip is set up with.

    Raises:
        BundleError: If there is no wheel of something.
    """
    with tempfile.TemporaryDirectory() as folder:
        pip.download(target, [f"{own.path}[{EXTRA}]", INSTALLER], Path(folder), indexes=indexes)
        found = [Wheel(path) for path in sorted(Path(folder).glob("*.whl"))]
        return [Pin.of(wheel) for wheel in found if wheel.name != own.name]


def write(target: Target, pins: Sequence[Pin], locks: Path = LOCKS) -> Path:
    """Write a target's lock and return where."""
    path = path_of(target, locks)
    path.write_text(requirements(pins, "Written by `coda bundle lock`; pip is for the first boot alone."))
    return path


def load(target: Target, own: Wheel, locks: Path = LOCKS) -> list[Pin]:
    """Read a target's lock, and see that it holds what a device needs.

    Raises:
        BundleError: If it is malformed, or older than a change of the requirements.
    """
    path = path_of(target, locks)
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    found = [_LINE.fullmatch(line) for line in lines]
    for line, match in zip(lines, found, strict=True):
        if match is None:
            raise BundleError(f"{path}: {line!r} is no name==version with a SHA-256; write the lock again")
    pins = [Pin(match[1], match[2], match[3]) for match in found if match is not None]
    for requirement in [*own.needs(target, EXTRA), Requirement(INSTALLER)]:
        if not any(_meets(pin, requirement) for pin in pins):
            raise BundleError(
                f"{path}: holds no {requirement.name}{requirement.specifier}; write it again with coda bundle lock"
            )
    return pins


def _meets(pin: Pin, requirement: Requirement) -> bool:
    named = pin.name == canonicalize_name(requirement.name)
    return named and requirement.specifier.contains(pin.version, prereleases=True)
