"""Serial meters over a pseudo terminal: right numbers, and no number at all from bytes that are not right."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import MeterError
from hardware.meters import csvline, ppk2, scpi, tc66, um
from hardware.meters.autodetect import MeterOptions, list_ports, open_meter
from hardware.meters.meter import Reading
from hardware.meters.port import Port
from hardware.meters.stream import MeterStream
from tests.hardware.pseudo import PPK2_METADATA, device, ppk2_samples, silent, tc66_answer, um_frame


def um_answers(*frames: bytes) -> Callable[[bytes], tuple[bytes, int]]:
    """One frame a question, the last for ever."""
    queue = itertools.chain(frames, itertools.repeat(frames[-1]))
    return lambda heard: (b"".join(next(queue) for _ in range(heard.count(um.ASK))), len(heard))


# --- UM24C, UM25C, UM34C


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


# --- TC66C


def tc66_answers(*answers: bytes) -> Callable[[bytes], tuple[bytes, int]]:
    """One answer a question, the last for ever."""
    queue = itertools.chain(answers, itertools.repeat(answers[-1]))

    def answer(heard: bytes) -> tuple[bytes, int]:
        asked = heard.count(tc66.ASK)
        return b"".join(next(queue) for _ in range(asked)), len(heard) if asked else 0

    return answer


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


# --- SCPI


def scpi_instrument(replies: dict[str, str]) -> Callable[[bytes], tuple[bytes, int]]:
    """Answers known commands and is silent on others, as instruments are."""

    def answer(heard: bytes) -> tuple[bytes, int]:
        *commands, rest = heard.split(b"\n")
        out = "".join(replies[c.decode("latin-1")] + "\n" for c in commands if c.decode("latin-1") in replies)
        return out.encode(), len(heard) - len(rest)

    return answer


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


# --- CSV lines


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


# --- PPK2


def ppk2_kit(sample_chunks: list[bytes]) -> Callable[[bytes], tuple[bytes, int]]:
    """Metadata when asked, samples once started."""

    def answer(heard: bytes) -> tuple[bytes, int]:
        out = PPK2_METADATA.encode() if b"\x19" in heard else b""
        if heard.endswith(b"\x06"):
            out += b"".join(sample_chunks)
        return out, len(heard)

    return answer


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
        deadline_s = time.monotonic() + 5
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


# --- streams


def _collect(stream: MeterStream, enough: Callable[[list[tuple[float, float]]], bool]) -> list[tuple[float, float]]:
    samples: list[tuple[float, float]] = []
    deadline_s = time.monotonic() + 20
    while not enough(samples) and time.monotonic() < deadline_s:
        stream.wait(0.1)
        samples += stream.drain()
    return samples


def test_stream_reconnects_and_keeps_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A meter that is unplugged and plugged in again goes on; the fault is kept, and what came before too."""
    monkeypatch.setattr(csvline, "_SILENCE_S", 0.5)
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
        stream.wait(5)
        assert stream.drain()
        first.close()
        deadline_s = time.monotonic() + 10
        while "another meter" not in (stream.fault or "") and time.monotonic() < deadline_s:
            time.sleep(0.01)
        stream.drain()
        assert "another meter answers now" in (stream.fault or "")
        assert stream.reconnects == 0
        stream.close()


# --- finding out


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
