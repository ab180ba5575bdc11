"""What the cloud knows of its devices, and its account of bytes, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from cloud_broker.storage.ledger import Ledger
from cloud_broker.storage.place import Place
from profiling.data_use import DayUse
from profiling.network import NetworkBytes
from protocol.errors import MalformedMessageError
from protocol.messages import Hello, LogRequest, Report

_NOON = 1_767_268_800.0  # 2026-01-01 12:00 UTC


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    """A new one, at noon."""
    with closing(Ledger(place, clock=lambda: _NOON)) as ledger:
        yield ledger


def test_a_device_is_known_by_what_it_said_last(ledger: Ledger) -> None:
    """Coming and going leave its hello, and a hello leaves its presence."""
    ledger.note_presence("dev", online=True)
    assert ledger.devices() == {"dev": {"seen_s": _NOON, "online": True}}
    ledger.note_hello("dev", Hello("0.1", "litert", "Raspberry Pi 5", ("a" * 64,)))
    ledger.note_presence("dev", online=False)
    ledger.note_hello("other", Hello("0.1", "litert", "Jetson", ()))
    known = ledger.devices()
    assert (known["dev"]["online"], known["dev"]["models"]) == (False, ["a" * 64])
    assert known["other"]["online"] is None
    assert ledger.boards() == {"dev": "Raspberry Pi 5", "other": "Jetson"}


def test_a_report_that_comes_twice_is_there_once(ledger: Ledger) -> None:
    """By its message's id; what JSON cannot hold, or PostgreSQL could not look into, is refused."""
    assert ledger.add_report("dev", Report("r1", 1, {"gate": "kept"}), "m1")
    assert not ledger.add_report("dev", Report("r1", 1, {"gate": "other"}), "m1")
    assert ledger.add_report("dev-b", Report("r1", 1, {"text": "a ünïcödé \\u0001 text"}), "m1")
    for record in ({"x": float("nan")}, {"x": b"bytes"}, {"x": ["a\0b"]}, {"a\0b": 1}):
        with pytest.raises(MalformedMessageError, match=r"not JSON|NUL"):
            ledger.add_report("dev", Report("r2", 1, record), "m2")
    assert ledger.reports("dev") == [("dev", {"gate": "kept"})]
    assert [name for name, _ in ledger.reports()] == ["dev", "dev-b"]
    assert ledger.gains() == []


def test_bytes_are_added_up_by_worker_and_day(ledger: Ledger) -> None:
    """Beyond what 32 bits hold; what a kernel did not count stays unknown."""
    large = 3 << 40
    ledger.data_use.add({"model": NetworkBytes(1, 2, 3, large, None, None)}, "cloud")
    ledger.data_use.add(
        {"model": NetworkBytes(1, 2, 3, large, None, None), "samples": NetworkBytes(0, 0, 0, 0, 9, 8)}, "cloud"
    )
    ledger.data_use.add({"model": NetworkBytes(5, 0, 0, 0, 1, 1)}, "cloud-2")
    assert ledger.data_use.of("cloud")["model"] == {
        "payload_up_bytes": 2, "payload_down_bytes": 4, "mqtt_up_bytes": 6, "mqtt_down_bytes": 2 * large,
        "tcp_up_bytes": None, "tcp_down_bytes": None,
    }  # fmt: skip
    assert ledger.data_use.by_day() == [
        DayUse("2026-01-01", "model", NetworkBytes(7, 4, 6, 2 * large, 1, 1)),
        DayUse("2026-01-01", "samples", NetworkBytes(0, 0, 0, 0, 9, 8)),
    ]
    assert ledger.data_use.charged_this_month() == 6 + 2 * large + 2 + 17


def test_a_question_is_put_by_one_worker(ledger: Ledger) -> None:
    """Of two that look at once each request goes to one."""
    asked = {ledger.logs.ask(f"dev-{number}") for number in range(20)}
    with ThreadPoolExecutor(4) as threads:
        taken = [one for found in threads.map(lambda _n: ledger.logs.take_unsent(), range(8)) for one in found]
    assert sorted(request.request_id for _, request in taken) == sorted(asked)
    assert all(isinstance(request, LogRequest) for _, request in taken)
