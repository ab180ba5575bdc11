"""Which systems a board runs, and what a system needs of a wheel: its Python, its C library, its instruction set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware.errors import BundleError

_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 10), (3, 14)
_OLDEST_GLIBC_MINOR = 17  # manylinux2014; older wheels have no aarch64
_MACHINES = {64: "aarch64", 32: "armv7l"}


@dataclass(frozen=True)
class Target:
    """What a bundle is for.

    Attributes:
        system: The operating system's release.
        python: Its ``python3``, as ``3.11``.
        glibc_minor: N of its C library 2.N.
        machine: ``aarch64`` or ``armv7l``, as its Python sees it.
    """

    system: str
    python: str
    glibc_minor: int
    machine: str = "aarch64"

    @property
    def name(self) -> str:
        """Names its lock and its bundle, such as ``bookworm-cp311-aarch64``."""
        return f"{self.system}-cp{self.python.replace('.', '')}-{self.machine}"

    @property
    def platforms(self) -> list[str]:
        """Platform tags of wheels that run there, the best first (PEP 600; piwheels uses the plain one)."""
        newest_first = range(self.glibc_minor, _OLDEST_GLIBC_MINOR - 1, -1)
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in newest_first]
        return [*tags, f"manylinux2014_{self.machine}", f"linux_{self.machine}"]

    @property
    def environment(self) -> dict[str, str]:
        """What its Python answers to the markers of a requirement (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


# JetPack 6 is Ubuntu 22.04, JetPack 5 is 20.04.
_SYSTEMS = {
    target.system: target
    for target in (
        Target("bookworm", "3.11", 36),
        Target("trixie", "3.13", 41),
        Target("ubuntu-20.04", "3.8", 31),
        Target("ubuntu-22.04", "3.10", 35),
        Target("ubuntu-24.04", "3.12", 39),
    )
}
_PI_64 = ("bookworm", "trixie", "ubuntu-22.04", "ubuntu-24.04")
# On 32 bits the only runtime is tflite-runtime, which ends with Python 3.11.
_PI_32 = ("bookworm",)
# A board's name, and by bits the systems that it runs.
BOARDS: dict[str, dict[int, tuple[str, ...]]] = {
    "pi3": {64: _PI_64, 32: _PI_32},
    "pizero2": {64: _PI_64, 32: _PI_32},
    "pi4": {64: _PI_64, 32: _PI_32},
    "pi5": {64: ("bookworm", "trixie", "ubuntu-24.04"), 32: _PI_32},
    "orin": {64: ("ubuntu-22.04",)},
    "xavier": {64: ("ubuntu-20.04",)},
}


def targets(board: str, *, bits: int = 64, system: str | None = None, python: str | None = None) -> list[Target]:
    """What to build for a board.

    Args:
        board: A key of `BOARDS`.
        bits: Of the installed system, 64 or 32; a 32-bit system may run on a 64-bit processor and kernel.
        system: One of the board's; by default all.
        python: Another than the system's own, which then has to be ``python3`` on the board.

    Raises:
        BundleError: If there is no such board or system, or its Python is none that CoDA Edge runs on.
    """
    if board not in BOARDS:
        raise BundleError(f"board {board!r}: it is one of {', '.join(BOARDS)}")
    known = BOARDS[board].get(bits, ())
    if system is not None and system not in known:
        raise BundleError(f"{board}, {bits} bits, has no bundle for {system}; it has {', '.join(known) or 'none'}")
    if not known:
        raise BundleError(f"{board} has no {bits}-bit system that CoDA Edge runs on")
    chosen = [_SYSTEMS[name] for name in known if system in (None, name)]
    return [_checked(replace(one, machine=_MACHINES[bits], python=python or one.python)) for one in chosen]


def _checked(target: Target) -> Target:
    parts = target.python.split(".")
    number = tuple(int(part) for part in parts if part.isdecimal())
    if len(number) != len(parts) or not _OLDEST_PYTHON <= number <= _NEWEST_PYTHON:
        raise BundleError(
            f"{target.system} with Python {target.python}: CoDA Edge needs 3.10 to 3.14. Install one on the board, "
            "as its python3, and name it here: --python 3.10"
        )
    return target
