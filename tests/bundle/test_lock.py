"""Which wheels are chosen for another machine, and what a lock holds pip to."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware.bundle import lock
from hardware.bundle.boards import BOARDS, Target, targets
from hardware.bundle.build import build, own_wheel
from hardware.bundle.lock import Pin
from hardware.errors import BundleError
from tests.bundle.conftest import BOARD, BOARD_32, Index
from tests.bundle.wheels import make_wheel


def test_wheels_are_chosen_for_the_board_and_not_for_this_computer(index: Index) -> None:
    """Markers are answered as the board would: its processor, its Python; and no wheel needs a newer C library."""
    chosen = {pin.name: pin.version for pin in lock.resolve(BOARD, index.own)}
    assert chosen == {"link": "2.1", "numbers-64": "1.0", "pip": "1.0", "runtime": "1.0", "wire": "1.0"}


def test_a_wheel_that_nobody_built_is_named_with_the_way_out(index: Index) -> None:
    """The package, the machine, and where else a wheel may be had."""
    said = "no wheel of numbers-64.*for armv7l, Python 3.11, glibc 2.36. piwheels .*--extra-index-url"
    with pytest.raises(BundleError, match=said):
        lock.resolve(BOARD_32, index.own)


def test_another_index_may_have_it(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an extra index offers counts like the first's."""
    project = tmp_path / "extra/numbers-64"
    wheel = make_wheel(project, "numbers-64", tag="cp311-cp311-linux_armv7l")
    (project / "index.html").write_text(f'<a href="{wheel.path.name}">{wheel.path.name}</a>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", index.folder.as_uri())
    chosen = lock.resolve(BOARD_32, index.own, [project.parent.as_uri()])
    assert Pin.of(wheel) in chosen
    assert {pin.name for pin in chosen} == {"link", "numbers-64", "pip", "runtime"}


def test_a_lock_reads_back_as_it_was_written(index: Index, tmp_path: Path) -> None:
    """Sorted, a line a wheel, and equal whenever it is written."""
    pins = lock.resolve(BOARD, index.own)
    text = lock.write(BOARD, pins, tmp_path).read_text()
    assert sorted(lock.load(BOARD, index.own, tmp_path), key=str) == sorted(pins, key=str)
    assert lock.write(BOARD, pins[::-1], tmp_path).read_text() == text


def test_a_changed_file_is_not_taken(index: Index, tmp_path: Path) -> None:
    """A wheel of the same name with other bytes is refused, and named."""
    lock.write(BOARD, lock.resolve(BOARD, index.own), tmp_path)
    make_wheel(index.folder, "link", "2.1", headers=["Summary: another"])
    with pytest.raises(BundleError, match=r"link==2.1 .*is not the file that was locked"):
        build(BOARD, index.own, tmp_path / "out", locks=tmp_path)
    assert not list((tmp_path / "out").glob("*"))


def test_a_lock_older_than_the_requirements_is_refused(index: Index, tmp_path: Path) -> None:
    """A requirement that was added, or narrowed, asks for a new lock."""
    lock.write(BOARD, lock.resolve(BOARD, index.own), tmp_path)
    for requirement in ("link>=3", "sensor"):
        newer = make_wheel(tmp_path / "newer", "coda-edge", requires=[requirement])
        with pytest.raises(BundleError, match="write it again"):
            lock.load(BOARD, newer, tmp_path)


def test_a_lock_without_a_digest_is_refused(index: Index, tmp_path: Path) -> None:
    """Every line has one."""
    lock.path_of(BOARD, tmp_path).write_text("link==2.1\n")
    with pytest.raises(BundleError, match="no name==version with a SHA-256"):
        lock.load(BOARD, index.own, tmp_path)


def test_the_locks_that_are_kept_meet_todays_requirements() -> None:
    """Each board's 64-bit systems have a lock, and none is older than `pyproject.toml`."""
    own_pythons = {"xavier": "3.10"}
    kept = {one.name: one for board in BOARDS for one in targets(board, python=own_pythons.get(board))}
    assert {path.stem for path in lock.LOCKS.glob("*aarch64.txt")} == set(kept)
    with own_wheel() as own:
        for target in kept.values():
            assert lock.load(target, own)


@pytest.mark.parametrize(
    ("board", "choice", "said"),
    [
        ("pi9", {}, "one of pi3, "),
        ("pi5", {"system": "ubuntu-22.04"}, "it has bookworm, trixie"),
        ("pi4", {"bits": 32, "system": "trixie"}, "it has bookworm"),
        ("orin", {"bits": 32}, "no 32-bit system"),
        ("xavier", {}, "Python 3.8: CoDA Edge needs 3.10"),
        ("pi5", {"python": "three"}, "Python three"),
        ("pi5", {"python": "3.15"}, "Python 3.15"),
    ],
)
def test_what_is_not_built_says_why(board: str, choice: dict[str, str], said: str) -> None:
    """A board, a system or a Python that there is no bundle for."""
    with pytest.raises(BundleError, match=said):
        targets(board, **choice)  # type: ignore[arg-type]


def test_a_board_may_bring_its_own_python() -> None:
    """JetPack 5 with a newer Python gets wheels for that and for its old C library."""
    [target] = targets("xavier", python="3.10")
    assert target == Target("ubuntu-20.04", "3.10", 31)
    assert target.platforms[0] == "manylinux_2_31_aarch64"
