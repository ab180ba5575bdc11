"""What docs/converters.md shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from converters.inference import BOUNDS
from converters.inspect import inspect_file
from converters.optimizers import OPTIMIZERS
from converters.options import TRAINABLE_SETS
from converters.parity_report import CHANGE_TOLERANCE, TOLERANCE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "converters.md").read_text()


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, in an empty folder; and the signatures are those of the table."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(code, names)  # noqa: S102 - our own document
    shown = {signature.name for signature in inspect_file(tmp_path / "model.tflite").signatures} | {"embed"}
    tabled = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE))
    assert shown == tabled - {*TRAINABLE_SETS, *OPTIMIZERS, "trainable"}
    assert {signature.name for signature in inspect_file(tmp_path / "small.tflite").signatures} == {"infer"}


def test_the_bounds_are_those_of_the_code() -> None:
    """A reader can rely on them."""
    assert f"at most {TOLERANCE:.0e}".replace("e-0", "e-") in DOCUMENT
    assert f"at most {CHANGE_TOLERANCE:.0e}".replace("e-0", "e-") in DOCUMENT
    assert "within {}, {} and {} of".format(*(f"{b:.0e}".replace("e-0", "e-") for b in BOUNDS.values())) in DOCUMENT
