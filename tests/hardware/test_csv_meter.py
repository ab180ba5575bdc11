"""Microcontrollers that print lines of numbers: columns by their units, and lines that are not whole."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hardware.errors import MeterError
from hardware.meters import csvline
from hardware.meters.meter import Reading
from hardware.meters.port import Port
from tests.hardware.pseudo import (
    device,
    silent,
)


def test_csv() -> None:
    """Units in the header scale the columns; stray bytes, cut and repeated lines are dropped and counted."""
    said = (
        b"\xff\x00boot\r\nt_ms,bus_V,current_mA,power_mW\r\n"
        b"10,5.02,400.0,2008.0\r\n20,5.01,410.0,2054.1\r\n20,5.01,410.0,2054.1\r\n30,5.0"
        b"\r\n40,nan,1,2\r\n50,x,1,2\r\n60,5.00,420.0,2100.0\r\n"
    )
    with device(silent) as far:
        meter = csvline.CsvMeter(Port(far.path))
        far.send(said)
        readings: list[Reading] = []
        while len(readings) < 3:
            readings += meter.read()
        assert [r.watts for r in readings] == pytest.approx([2.008, 2.0541, 2.1])
        assert (meter.lost, meter.repeated) == (3, 1)
        steps = np.diff([r.at_s for r in readings])
        assert steps == pytest.approx([0.01, 0.04], abs=1e-6)
        meter.close()


@pytest.mark.parametrize(
    ("header", "line", "watts"),
    [
        ("bus_V,current_mA", "5.0,500", 2.5),
        ("t_us,power_uW", "1,2500000", 2.5),
        ("voltage_mV,I_A,n", "5000,0.5,77", 2.5),
        ("W,note_V", "2.5,9", 2.5),
    ],
)
def test_csv_headers(header: str, line: str, watts: float) -> None:
    """Columns are told by their unit, in any order; power is multiplied where it is not a column."""
    with device(silent) as far:
        meter = csvline.CsvMeter(Port(far.path), header)
        far.send(f"7\n{line}\n".encode())  # the first line may have begun before anyone listened
        assert meter.read()[0].watts == pytest.approx(watts)
        meter.close()


def test_csv_without_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers without a header could be anything, so they are nothing."""
    monkeypatch.setattr(csvline, "_SILENCE_S", 0.2)
    with device(silent) as far:
        meter = csvline.CsvMeter(Port(far.path))
        far.send(b"1,5.0,500\n" * 5)
        with pytest.raises(MeterError, match="no header line"):
            meter.read()
        meter.close()
        with pytest.raises(MeterError, match="names no power"):
            csvline.CsvMeter(Port(far.path), "t_ms,temperature_C")


def test_csv_line_heard_from_its_middle() -> None:
    """The rest of a line that began before anyone listened is not taken for a smaller number."""
    with device(silent) as far:
        meter = csvline.CsvMeter(Port(far.path), "power_mW,n")
        far.send(b"00,1\n2500,2\n")
        assert [reading.watts for reading in meter.read()] == [2.5]
        meter.close()


def test_csv_power_with_a_lost_digit() -> None:
    """Where volts and amperes are there too, a power that is not about their product is lost."""
    with device(silent) as far:
        meter = csvline.CsvMeter(Port(far.path))
        far.send(b"bus_V,current_mA,power_mW\n5.0,500,2500\n5.0,500,250\n5.0,510,2540\n")
        readings = meter.read()
        assert [reading.watts for reading in readings] == [2.5, 2.54]
        assert meter.lost == 1
        meter.close()


def test_csv_clock_that_begins_anew_between_two_lines() -> None:
    """A reset in the middle of what has arrived leaves no reading in the future."""
    with device(silent) as far:
        meter = csvline.CsvMeter(Port(far.path))
        far.send(b"t_ms,power_mW\n900000,2500\n900010,2500\n5,2600\n15,2610\n")
        readings = meter.read()
        assert [reading.watts for reading in readings] == [2.6, 2.61]
        assert readings[-1].at_s <= time.monotonic()
        assert meter.lost == 2
        meter.close()
