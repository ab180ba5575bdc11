"""Which meter is on a port, and clear errors where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hardware.errors import MeterError
from hardware.meters import ppk2, scpi, tc66, um
from hardware.meters.autodetect import MeterOptions, list_ports, open_meter
from hardware.meters.port import Port
from tests.hardware.pseudo import (
    device,
    ppk2_kit,
    ppk2_samples,
    scpi_instrument,
    silent,
    tc66_answer,
    tc66_answers,
    um_answers,
    um_frame,
)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardware.meters.autodetect._LISTEN_S", 0.1)
    for module in (um, tc66, scpi, ppk2):
        monkeypatch.setattr(module, "_ANSWER_S", 0.15)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("kind", ["um", "tc66c", "scpi", "csv", "ppk2"])
def test_autodetect(kind: str) -> None:
    """Each meter is found by asking, whatever questions come before its own."""
    answers: dict[str, Callable[[bytes], tuple[bytes, int]]] = {
        "um": um_answers(um_frame()),
        "tc66c": tc66_answers(tc66_answer(5.0, 1.0)),
        "scpi": scpi_instrument({"*IDN?": "OWON,SPE3103"}),
        "csv": silent,
        "ppk2": ppk2_kit([ppk2_samples(2000)]),
    }
    speech = b"t_ms,power_mW\n1,2\n" if kind == "csv" else b""
    with device(answers[kind], speech) as far:
        meter = open_meter(far.path, options=MeterOptions(vdd_mv=3300))
        assert meter.source.name.startswith(kind)
        meter.close()


@pytest.mark.usefixtures("_impatient")
def test_autodetect_finds_nothing() -> None:
    """A port on which nobody answers gives one error that says what every question gave."""
    with (
        device(silent) as far,
        pytest.raises(MeterError, match=r"no meter found; csv: .*um: .*scpi: .*ppk2: "),
    ):
        open_meter(far.path)


def test_open_errors() -> None:
    """An absent port, a port in use and an unknown kind are clear errors."""
    with pytest.raises(MeterError, match="cannot be opened"):
        open_meter("/dev/absent", "um")
    with pytest.raises(ValueError, match="use one of csv, um"):
        open_meter("/dev/absent", "voltmeter")
    with device(silent) as far:
        port = Port(far.path)
        with pytest.raises(MeterError, match="cannot be opened"):
            Port(far.path)
        port.close()


def test_ports_are_listed() -> None:
    """Listing works on any machine, also one without serial ports."""
    assert isinstance(list_ports(), list)
