"""The UM24C, UM25C and UM34C over a pseudo terminal: right numbers, and none from bytes that are not right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import MeterError
from hardware.meters import um
from hardware.meters.port import Port
from tests.hardware.pseudo import (
    device,
    um_answers,
    um_frame,
)


@pytest.mark.parametrize("model", [0x0963, 0x09C9, 0x0D4C])
def test_um_models(model: int) -> None:
    """Each model's scales are its own."""
    with device(um_answers(um_frame(model, 5.12, 0.734))) as far:
        meter = um.UmMeter(Port(far.path, um.BAUD))
        (reading,) = meter.read()
        assert reading.watts == pytest.approx(5.12 * 0.734, abs=0.002)
        assert (reading.volts, reading.amps) == pytest.approx((5.12, 0.734), abs=0.0006)
        meter.close()


def test_um_stray_byte_at_power_on() -> None:
    """A stray FF before the frame does not shift what is read."""
    with device(um_answers(b"\xff" + um_frame())) as far:
        meter = um.UmMeter(Port(far.path, um.BAUD))
        assert meter.read()[0].watts == pytest.approx(2.5)
        meter.close()


def test_um_repetitions_are_dropped() -> None:
    """The same frame again is the meter repeating itself, not a sample."""
    frames = [um_frame(amps=0.5)] * 3 + [um_frame(amps=0.6)]
    with device(um_answers(*frames)) as far:
        meter = um.UmMeter(Port(far.path, um.BAUD))
        readings = [meter.read()[0].amps, meter.read()[0].amps]
        assert readings == [0.5, 0.6]
        assert meter.repeated >= 1
        meter.close()


def test_um_truncated_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that breaks off gives an error that counts its bytes, and is counted as lost."""
    monkeypatch.setattr(um, "_ANSWER_S", 0.1)
    with device(um_answers(um_frame(), um_frame()[:97])) as far:
        meter = um.UmMeter(Port(far.path, um.BAUD))
        with pytest.raises(MeterError, match="97 bytes and no more"):
            meter.read()
        assert meter.lost == 1
        meter.close()


def test_um_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A meter that sends one and the same frame for long is taken for hung, not for constant."""
    monkeypatch.setattr(um, "_STUCK_S", 0.2)
    monkeypatch.setattr(um, "_POLL_S", 0.01)
    with device(um_answers(um_frame())) as far:
        meter = um.UmMeter(Port(far.path, um.BAUD))
        meter.read()
        with pytest.raises(MeterError, match="it hangs"):
            meter.read()
        meter.close()


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40), st.integers(0, 9), st.integers(1, 255))
def test_um_damaged_power_is_never_taken(before: bytes, place: int, flip: int) -> None:
    """Whatever precedes a frame it is found; with volts, amperes, watts or model damaged it is refused or harmless."""
    frame = um_frame()
    found = um.find_frame(before + frame)
    assert found is not None
    assert um.parse(found)[3] == pytest.approx(2.5, rel=0.03)
    spoilt = bytearray(frame)
    spoilt[place] ^= flip
    found = um.find_frame(bytes(spoilt))
    if found is not None:
        assert um.parse(found)[3] == pytest.approx(2.5, rel=0.03)
