"""The table of layers: each is converted and proven in every installed runtime."""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import keras
import pytest

from converters.convert import ConvertOptions, convert
from converters.errors import UnsupportedOpError
from converters.parity_report import ParityReport
from tests.converters.layer_cases import CASES, DOCUMENT, REFUSALS, Refusal, document
from tests.converters.side_by_side import Futures, start

SMALL = ConvertOptions(batch_size=4)
CASES_BY_ID = {case.id: case for case in CASES}


def prove(case_id: str) -> tuple[ParityReport, int]:
    """Convert a case's model; gives also how many weights it trains."""
    keras.utils.set_random_seed(1)
    model = CASES_BY_ID[case_id].build()
    with tempfile.TemporaryDirectory() as folder:
        return convert(model, Path(folder) / "layer.tflite", SMALL).parity, len(model.trainable_variables)


@pytest.fixture(scope="module")
def proofs(pool: ProcessPoolExecutor, request: pytest.FixtureRequest) -> Futures[tuple[ParityReport, int]]:
    """The parity of every case that was chosen."""
    return start(pool, request, test_a_layer_trains_as_in_tensorflow.__name__, prove)


@pytest.mark.parametrize("case_id", CASES_BY_ID)
def test_a_layer_trains_as_in_tensorflow(case_id: str, proofs: Futures[tuple[ParityReport, int]]) -> None:
    """The parity gate passes, and every trained weight was compared."""
    parity, trained = proofs[case_id,].result()
    assert parity.passed
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
    assert len(CASES_BY_ID) == len(CASES) >= 25
