"""`coda hardware meters`: power meters on a serial port."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hardware.meters.autodetect import MeterOptions
    from hardware.meters.meter import Meter, Reading
    from hardware.meters.stream import MeterStream

app = typer.Typer(help="Power meters on a serial port.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PortArgument = Annotated[str, typer.Argument(help="Device file of the port, such as /dev/ttyUSB0.")]
KindOption = Annotated[str | None, typer.Option("--kind", help="csv, um, tc66c, scpi or ppk2; found out by default.")]
BaudOption = Annotated[int | None, typer.Option("--baud", help="Speed, where it is not the family's usual one.")]
HeaderOption = Annotated[
    str | None, typer.Option("--csv-header", help="Header of a CSV meter that printed it before anyone listened.")
]
VddOption = Annotated[int | None, typer.Option("--vdd-mv", help="Supply of a PPK2, which measures no voltage.")]
SourceOption = Annotated[bool, typer.Option("--ppk2-source", help="The PPK2 itself supplies the board.")]

_REPLAY_POLL_S = 0.02
_COLUMNS = ("t_s", "power_w", "voltage_v", "current_a")


@app.command(name="list", epilog="Example:  coda hardware meters list")
def list_(as_json: JsonOption = False) -> None:
    """List serial ports, and the meter that a port's USB identity stands for."""
    from dataclasses import asdict

    from coda.output import print_json, results
    from hardware.meters.autodetect import KINDS, list_ports

    ports = list_ports()
    if as_json:
        print_json([asdict(port) for port in ports])
        return
    for port in ports:
        results.print(f"{port.path}: {port.description}, {port.kind or 'any kind of meter'}", markup=False)
    if not ports:
        results.print(f"no serial port; meters that can be read: {', '.join(KINDS)}", markup=False)


@app.command(epilog="Example:  coda hardware meters read /dev/ttyUSB0")
def read(
    port: PortArgument,
    kind: KindOption = None,
    baud: BaudOption = None,
    csv_header: HeaderOption = None,
    vdd_mv: VddOption = None,
    ppk2_source: SourceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read a meter once."""
    from coda.output import print_json, results

    meter = _connect(port, kind, meter_options(baud, csv_header, vdd_mv, ppk2_source))
    try:
        reading = meter.read()[-1]
    finally:
        meter.close()
    values = {"meter": meter.source.name, **dict(zip(_COLUMNS[1:], _values(reading), strict=True))}
    if as_json:
        print_json(values)
    else:
        results.print("  ".join(f"{name} {value}" for name, value in values.items()), markup=False)


@app.command(epilog="Example:  coda hardware meters log /dev/ttyUSB0 --seconds 60 --out power.csv")
def log(
    port: PortArgument,
    seconds: Annotated[float, typer.Option(help="How long to log.", min=0.1)] = 60.0,
    out: Annotated[Path | None, typer.Option(help="CSV file; standard output by default.")] = None,
    kind: KindOption = None,
    baud: BaudOption = None,
    csv_header: HeaderOption = None,
    vdd_mv: VddOption = None,
    ppk2_source: SourceOption = False,
) -> None:
    """Log a meter's readings as CSV, connecting again when it was unplugged; says at the end what was lost."""
    from coda.output import console

    stream = open_stream(port, kind, meter_options(baud, csv_header, vdd_mv, ppk2_source))
    file = out.open("w", newline="", buffering=1) if out is not None else sys.stdout
    written = 0
    try:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for row in _rows(stream, seconds):
            rows.writerow(row)
            written += 1
    finally:  # Ctrl-C is the usual way to end a log
        stream.close()
        if out is not None:
            file.close()
        console.print(f"{stream.source.name}: {written} readings, {_losses(stream)}", markup=False)
    _require(written, stream)


@app.command(epilog="Example:  coda hardware meters replay runs/a/recordings/device-1.jsonl")
def replay(
    recording: Annotated[Path, typer.Argument(help="A round's raw samples.", exists=True, dir_okay=False)],
    source: Annotated[str | None, typer.Option(help="Which of its power sources; the first by default.")] = None,
    speed: Annotated[float, typer.Option(help="Times as fast as it was recorded.", min=0.01, max=1000)] = 1.0,
) -> None:
    """Play a recorded round back as a meter: its power as CSV, at the pace at which it was measured."""
    from coda.errors import UsageError
    from profiling.recording import load_recording
    from profiling.replay import ReplayMeter

    try:
        meter = ReplayMeter(load_recording(recording), source, lambda: time.monotonic() * speed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    rows, first_s = csv.writer(sys.stdout, lineterminator="\n"), None
    rows.writerow(_COLUMNS[:2])
    while not meter.finished:
        for at_s, power_mw in meter.drain():
            first_s = at_s if first_s is None else first_s
            rows.writerow((f"{at_s - first_s:.6f}", power_mw / 1000))
        sys.stdout.flush()
        time.sleep(_REPLAY_POLL_S)


def meter_options(baud: int | None, csv_header: str | None, vdd_mv: int | None, ppk2_source: bool) -> MeterOptions:
    """What the command line says of the meter."""
    from hardware.meters.autodetect import MeterOptions

    return MeterOptions(vdd_mv=vdd_mv, ppk2_source=ppk2_source, csv_header=csv_header, baud=baud)


def open_stream(port: str, kind: str | None, options: MeterOptions) -> MeterStream:
    """The meter on a port, read in the background until it is closed.

    Raises:
        UsageError: If the kind is unknown.
        MeterError: If there is no such meter.
    """
    from hardware.meters.stream import MeterStream

    return MeterStream(lambda: _connect(port, kind, options))


def _connect(port: str, kind: str | None, options: MeterOptions) -> Meter:
    from coda.errors import UsageError
    from hardware.meters.autodetect import KINDS, open_meter

    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind {kind}: use one of {', '.join(KINDS)}")
    return open_meter(port, kind, options)


def _rows(stream: MeterStream, seconds: float) -> Iterator[tuple[str, float, float | None, float | None]]:
    """Rows as they arrive; the first reading's time is zero."""
    end_s, first_s = time.monotonic() + seconds, None
    while (left_s := end_s - time.monotonic()) > 0:
        stream.wait(min(left_s, 1.0))
        for reading in stream.drain_readings():
            first_s = reading.at_s if first_s is None else first_s
            yield f"{reading.at_s - first_s:.6f}", *_values(reading)


def _values(reading: Reading) -> tuple[float, float | None, float | None]:
    return reading.watts, reading.volts, reading.amps


def _losses(stream: MeterStream) -> str:
    counted = f"{stream.lost} lost, {stream.repeated} repeats dropped, {stream.reconnects} reconnections"
    return counted if stream.fault is None else f"{counted}; last fault: {stream.fault}"


def _require(written: int, stream: MeterStream) -> None:
    """A log of nothing is a failure."""
    from hardware.errors import MeterError

    if not written:
        raise MeterError(stream.source.name, f"no reading arrived: {stream.fault or 'the meter is silent'}")
