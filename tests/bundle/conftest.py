"""A package index that is a folder of small wheels, and a CoDA Edge of the same size that needs some of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from hardware.bundle import lock
from hardware.bundle.boards import Target
from hardware.bundle.build import Built, build
from hardware.bundle.wheel import Wheel
from tests.bundle.wheels import make_wheel

BOARD = Target("bookworm", "3.11", 36)
BOARD_32 = Target("bookworm", "3.11", 36, "armv7l")


@dataclass(frozen=True)
class Index:
    """Where pip looks, and what is bundled."""

    folder: Path
    own: Wheel


def make_index(folder: Path) -> Index:
    """Write the index and our own wheel, the same every time."""
    wheels = folder / "index"
    make_wheel(wheels, "pip")
    make_wheel(wheels, "link", "2.0")
    make_wheel(wheels, "link", "2.1", requires=["wire; platform_machine == 'aarch64'"])
    make_wheel(wheels, "wire", requires=["old; python_version < '3.11'"])
    make_wheel(wheels, "runtime", files={"runtime.py": b"", "runtime/tests/big.py": b"#" * 200_000})
    make_wheel(wheels, "numbers-64", tag="cp311-cp311-manylinux_2_28_aarch64", headers=["License: BSD"])
    make_wheel(wheels, "numbers-64", "1.1", tag="cp311-cp311-manylinux_2_99_aarch64")
    requires = ["link>=2", "runtime; extra == 'edge'", "numbers-64; extra == 'edge'", "cloud; extra == 'cloud'"]
    extras = ["Provides-Extra: edge", "Provides-Extra: cloud", "License-Expression: Apache-2.0"]
    own = make_wheel(folder / "own", "coda-edge", "0.1.0", requires=requires, headers=extras)
    return Index(wheels, own)


def use(index: Index, patch: pytest.MonkeyPatch) -> None:
    """Let pip know of that index and no other."""
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(index.folder))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An index of the test's own."""
    made = make_index(tmp_path)
    use(made, monkeypatch)
    return made


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A bundle, to be looked at."""
    folder = tmp_path_factory.mktemp("bundle")
    made = make_index(folder)
    with pytest.MonkeyPatch.context() as patch:
        use(made, patch)
        lock.write(BOARD, lock.resolve(BOARD, made.own), folder)
        return build(BOARD, made.own, folder / "out", locks=folder)
