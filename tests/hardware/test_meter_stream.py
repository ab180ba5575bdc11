"""A meter read in the background: unplugged, plugged in again, exchanged for another."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from hardware.meters import csvline, um
from hardware.meters.port import Port
from hardware.meters.stream import MeterStream
from tests.hardware.pseudo import (
    device,
    silent,
    um_answers,
    um_frame,
)


def _collect(stream: MeterStream, enough: Callable[[list[tuple[float, float]]], bool]) -> list[tuple[float, float]]:
    samples: list[tuple[float, float]] = []
    deadline_s = time.monotonic() + 30
    while not enough(samples) and time.monotonic() < deadline_s:
        stream.wait(0.1)
        samples += stream.drain()
    return samples


def test_stream_reconnects_and_keeps_its_samples() -> None:
    """A meter that is unplugged and plugged in again goes on; the fault is kept, and what came before too."""
    with device(silent, b"power_mW,n\n2000,1\n") as first, device(silent, b"power_mW,n\n3000,1\n") as second:
        paths = iter([first.path, second.path])
        stream = MeterStream(lambda: csvline.CsvMeter(Port(next(paths))), retry_s=0.01)
        samples = _collect(stream, lambda samples: len(samples) >= 3)
        first.close()
        samples += _collect(stream, lambda samples: sum(mw == 3000 for _, mw in samples) >= 3)
        stream.close()
    powers = [mw for _, mw in samples]
    assert powers == sorted(powers)
    assert {2000.0, 3000.0} == set(powers)
    times = [at for at, _ in samples]
    assert times == sorted(set(times))
    assert stream.reconnects == 1
    assert stream.faults >= 1


def test_stream_refuses_another_meter() -> None:
    """If another model answers after a reconnect, its values are not taken for the first one's."""
    with device(um_answers(um_frame(0x0963))) as first, device(um_answers(um_frame(0x0D4C))) as second:
        paths = itertools.chain([first.path], itertools.repeat(second.path))
        stream = MeterStream(lambda: um.UmMeter(Port(next(paths), um.BAUD)), retry_s=0.01)
        stream.wait(30)
        assert stream.drain()
        first.close()
        deadline_s = time.monotonic() + 30
        while "another meter" not in (stream.fault or "") and time.monotonic() < deadline_s:
            time.sleep(0.01)
        stream.drain()
        assert "another meter answers now" in (stream.fault or "")
        assert stream.reconnects == 0
        stream.close()
