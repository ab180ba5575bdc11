"""The PPK2: its formula, its commands, and a stream with losses."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import MeterError
from hardware.meters import ppk2
from hardware.meters.port import Port
from tests.hardware.pseudo import (
    PPK2_METADATA,
    device,
    ppk2_kit,
    ppk2_samples,
    silent,
)


def _amps(adc: int, span: int) -> float:
    """The current of a sample, by the published formula and the metadata of the fake kit."""
    r = (1003.3506, 101.5865, 10.3027, 0.9636, 0.0564)[span]
    gs = (1.0, 112.7890, 18.0115, 2.4217, 0.0729)[span]  # GS0 is 0 in the metadata, which means the default
    gi = (1.0, 0.9695, 0.9609, 0.9519, 0.9582)[span]
    o = (112.9420, 75.4627, 64.6020, 50.4983, 96.7506)[span]
    x = (adc * 4 - o) * (1.8 / 163840) / r
    return x * (gs * x + gi)


@pytest.mark.parametrize("span", [0, 1, 2, 3, 4])
def test_ppk2_ranges(span: int) -> None:
    """Each range's current follows the formula; a zero and a -nan in the metadata take their defaults."""
    with device(ppk2_kit([ppk2_samples(2000, 2000, span)])) as far:
        meter = ppk2.Ppk2Meter(Port(far.path), 3700)
        reading = meter.read()[0]
        assert reading.amps == pytest.approx(_amps(2000, span), rel=1e-9)
        assert reading.watts == pytest.approx(3.7 * _amps(2000, span), rel=1e-9)
        assert meter.lost == 0
        meter.close()


def test_ppk2_commands() -> None:
    """The kit is stopped, asked, set to its mode and supply, and started, in this order; closing stops it."""
    said = b""

    def answer(heard: bytes) -> tuple[bytes, int]:
        nonlocal said
        said += heard
        return (PPK2_METADATA.encode() if b"\x19" in heard else b""), len(heard)

    with device(answer) as far:
        ppk2.Ppk2Meter(Port(far.path), 5000, source=True).close()
        deadline_s = time.monotonic() + 30
        while not said.endswith(b"\x06\x07") and time.monotonic() < deadline_s:
            time.sleep(0.01)
    assert said == b"\x07\x19\x11\x02\x0d\x13\x88\x0c\x01\x06\x07"


def test_ppk2_refuses_a_supply_out_of_range() -> None:
    """More than the kit can give is refused before anything is sent."""
    with device(silent) as far, pytest.raises(MeterError, match="800 to 5000"):
        ppk2.Ppk2Meter(Port(far.path), 12_000)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.integers(0, 63))
def test_ppk2_partial_words_between_reads(cuts: list[int], first: int) -> None:
    """However the stream is cut into reads, every sample comes out once and none is counted as lost."""
    data = ppk2_samples(600, first=first)
    samples, out, at = ppk2.Samples(), [], 0
    for cut in [*cuts, len(data)]:
        out.append(samples.feed(data[at : at + cut]))
        at += cut
    words = np.concatenate(out)
    assert samples.lost == 0
    assert len(words) >= 600 - 16 - 6
    assert words.tolist() == list(struct.unpack(f"<{len(words)}I", data[12 : 12 + 4 * len(words)]))


@settings(deadline=None, max_examples=60)
@given(st.integers(40, 400), st.integers(1, 63))
def test_ppk2_lost_samples_are_counted(at: int, gone: int) -> None:
    """Samples that are missing are counted by the counter, and the three on each side that border on the break."""
    data = ppk2_samples(600)
    samples = ppk2.Samples()
    samples.feed(data[: 4 * at] + data[4 * (at + gone) :])
    assert samples.lost == gone + 6


@settings(deadline=None, max_examples=100)
@given(st.integers(64, 2300), st.integers(1, 3), st.integers(1, 16383))
def test_ppk2_lost_bytes_never_become_currents(at: int, gone: int, adc: int) -> None:
    """After lost bytes the stream is shifted: what is shifted is lost, and every sample used is a true one."""
    data = ppk2_samples(600, adc=adc)
    samples = ppk2.Samples()
    used = [samples.feed(data[:at] + data[at + gone :]), samples.feed(ppk2_samples(200, adc=adc, first=600))]
    for words in used:
        assert set((words & 0x3FFF).tolist()) <= {adc}
    assert len(used[1]) >= 180
    assert samples.lost >= 1
