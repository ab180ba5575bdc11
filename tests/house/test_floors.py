"""The house's floors: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = {
    "protocol": 0,
    "hardware": 0,
    "converters": 1,
    "profiling": 1,
    "edge": 2,
    "cloud_broker": 2,
    "evaluation": 3,
    "coda": 3,
}
SIBLINGS_APART = [{"edge", "cloud_broker"}, {"converters", "profiling"}, {"protocol", "hardware"}]
TOO_HEAVY_FOR_A_DEVICE = ["tensorflow", "keras", "faiss", "pandas", "cryptography", "typer", "rich", "flask", "fastapi"]


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_its_own_floor_or_lower(room: str) -> None:
    """No module imports a higher floor, nor the room across the landing."""
    for path in (ROOT / room).rglob("*.py"):
        for imported in _imports(path):
            if imported not in FLOORS or imported == room:
                continue
            assert FLOORS[imported] <= FLOORS[room], f"{path.relative_to(ROOT)} imports {imported}, a higher floor"
            assert {room, imported} not in SIBLINGS_APART, f"{path.relative_to(ROOT)} imports its sibling {imported}"


@pytest.mark.parametrize("module", ["edge", "edge.service", "edge.learning.personalise", "protocol.envelope"])
def test_a_device_loads_nothing_heavy(module: str) -> None:
    """What runs on a device loads no TensorFlow, faiss, pandas, web framework or terminal toolkit."""
    code = f"import sys, {module}; print([m for m in {TOO_HEAVY_FOR_A_DEVICE} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_folder_of_the_house_is_packaged() -> None:
    """A folder that is not packaged would be missing on a user's machine."""
    packaged = (ROOT / "pyproject.toml").read_text()
    for room in FLOORS:
        assert f'"{room}"' in packaged
        assert (ROOT / room / "py.typed").exists()
