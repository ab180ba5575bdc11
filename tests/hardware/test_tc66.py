"""The TC66C over a pseudo terminal: encrypted blocks, checked before they are believed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import MeterError
from hardware.meters import tc66
from hardware.meters.port import Port
from tests.hardware.pseudo import (
    device,
    tc66_answer,
    tc66_answers,
)


def test_tc66() -> None:
    """Volts, amperes and watts come out of the encrypted blocks."""
    with device(tc66_answers(tc66_answer(5.1034, 1.23456))) as far:
        meter = tc66.Tc66Meter(Port(far.path, tc66.BAUD))
        (reading,) = meter.read()
        assert (reading.volts, reading.amps) == pytest.approx((5.1034, 1.23456))
        assert reading.watts == pytest.approx(5.1034 * 1.23456, abs=1e-4)
        meter.close()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 191))
def test_tc66_any_flipped_bit_is_refused(place: int) -> None:
    """A bit flipped anywhere fails a name or a checksum."""
    with pytest.raises(MeterError, match="block"):
        tc66.parse(tc66_answer(5.0, 1.0, spoil=place))


def test_tc66_truncated_and_stray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut answer is an error and counted; stray bytes before a whole one are not in the way once they are there."""
    monkeypatch.setattr(tc66, "_ANSWER_S", 0.1)
    good = tc66_answer(5.0, 1.0)
    with device(tc66_answers(good, good[:100])) as far:
        meter = tc66.Tc66Meter(Port(far.path, tc66.BAUD))
        with pytest.raises(MeterError, match="100 bytes and no more"):
            meter.read()
        assert meter.lost == 1
        meter.close()
    with device(tc66_answers(b"\x00\x7f" + good)) as far:
        meter = tc66.Tc66Meter(Port(far.path, tc66.BAUD))
        assert meter.read()[0].watts == pytest.approx(5.0)
        meter.close()
