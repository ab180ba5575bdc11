"""The table of layers: each is converted and proven in every installed runtime."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from converters.convert import ConvertOptions, convert
from converters.errors import UnsupportedOpError
from tests.converters.layer_cases import CASES, DOCUMENT, REFUSALS, Case, Refusal, document

SMALL = ConvertOptions(batch_size=4)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.id))
def test_a_layer_trains_as_in_tensorflow(case: Case, tmp_path: Path) -> None:
    """The parity gate passes, and every trained weight was compared."""
    keras.utils.set_random_seed(1)
    model = case.build()
    parity = convert(model, tmp_path / "layer.tflite", SMALL).parity
    assert parity.passed
    trained = len(model.trainable_variables)
    assert all(len(runtime.weight_errors) >= trained for runtime in parity.runtimes)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: str(refusal.layer).replace(" ", "_"))
def test_what_cannot_be_lowered_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    """One message names the layer, the operation and a way out; nothing is written."""
    with pytest.raises(UnsupportedOpError, match=refusal.way_out) as caught:
        convert(refusal.build(), tmp_path / "layer.tflite", SMALL)
    assert caught.value.layer == refusal.name
    assert caught.value.op in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_table_in_the_documentation_is_current() -> None:
    """docs/layers.md says what these cases say; `python -m tests.converters.layer_cases` writes it."""
    assert DOCUMENT.read_text() == document()


def test_enough_distinct_models_are_proven() -> None:
    """At least 25 models, each of its own name."""
    assert len({case.id for case in CASES}) == len(CASES) >= 25
