"""Instruments that speak SCPI: each family's dialect, and replies that are no power."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.errors import MeterError
from hardware.meters import scpi
from hardware.meters.port import Port
from tests.hardware.pseudo import (
    device,
    scpi_instrument,
)


@pytest.mark.parametrize(
    ("identity", "power"),
    [
        ("OWON,SPE3103,2109123,FV:V1.8.0", "MEAS:POW?"),
        ("Elektro-Automatik GmbH, EA-PS 2042-06 B", "MEAS:POW?"),
        ("Chroma,62012P-80-60,03.30.1,05648", "MEAS:POW?"),
        ("B&K Precision,9130,602193010677710001,V1.69", ":MEAS:POWER?"),
        ("Envox,EEZ H24005,0000000,M4", ":MEAS:POWER?"),
        ("RIGOL TECHNOLOGIES,DP832,DP8C1234,00.01.14", ":MEAS:POWE?"),
        ("Keysight Technologies,E36312A,MY5,1.0", None),
        ("Someone,Unknown 1,2,3", None),
    ],
)
def test_scpi_dialects(identity: str, power: str | None) -> None:
    """Power is asked in the instrument's own words, else multiplied, and the source says which."""
    replies = {"*IDN?": identity, "MEAS:VOLT?": "+4.9900E+00", "MEAS:CURR?": "500 mA"}
    if power:
        replies[power] = "2.48 W"
    with device(scpi_instrument(replies)) as far:
        meter = scpi.ScpiMeter(Port(far.path))
        (reading,) = meter.read()
        assert reading.watts == pytest.approx(2.48 if power else 4.99 * 0.5)
        assert ("not taken at once" in meter.source.note) == (power is None)
        meter.close()


@pytest.mark.parametrize("reply", ["", "abc", "1.2.3", "4,99", "9.9E37", "-9.9E+37", "nan", "inf", "5 Hz"])
def test_scpi_replies_that_are_no_power(reply: str) -> None:
    """Garbage and overload are errors."""
    with pytest.raises(MeterError):
        scpi.parse_number(reply)


@given(st.floats(-1e6, 1e6, allow_nan=False))
def test_scpi_numbers(value: float) -> None:
    """Any number in plain or scientific notation is read back."""
    assert scpi.parse_number(f"{value:+.9E}") == pytest.approx(value, rel=1e-8)
    assert scpi.parse_number(f"{value:.6f} V") == pytest.approx(value, abs=1e-6)


def test_scpi_silence_and_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instrument that falls silent, or answers at another speed, is an error."""
    monkeypatch.setattr(scpi, "_ANSWER_S", 0.1)
    with device(scpi_instrument({"*IDN?": "A,B"})) as far:
        meter = scpi.ScpiMeter(Port(far.path))
        with pytest.raises(MeterError, match="MEAS:VOLT"):
            meter.read()
        assert meter.lost == 1
        meter.close()
    with device(lambda heard: (b"\xf3\x98\n", len(heard))) as far, pytest.raises(MeterError, match="no text"):
        scpi.ScpiMeter(Port(far.path))


@pytest.mark.parametrize("identity", ["Someone,Unknown 1,2,3", "OWON,SPE3103,2109123,FV:V1.8.0"])
def test_scpi_answers_to_other_questions(identity: str) -> None:
    """An instrument that lags by one answer never has its volts taken for amperes."""
    replies = {"*IDN?": identity, "MEAS:VOLT?": "5.000", "MEAS:CURR?": "0.500", "MEAS:POW?": "2.500"}
    answers = scpi_instrument(replies)
    last = b"5.000\n"

    def lagging(heard: bytes) -> tuple[bytes, int]:
        nonlocal last
        reply, used = answers(heard)
        if not reply or b"," in reply:
            return reply, used
        reply, last = last, reply
        return reply, used

    with device(lagging) as far:
        meter = scpi.ScpiMeter(Port(far.path))
        with pytest.raises(MeterError, match="answers to other questions"):
            meter.read()
        assert meter.lost == 2
        meter.close()
