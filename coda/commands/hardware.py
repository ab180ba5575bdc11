"""`coda hardware`: what this machine is, what can be measured on it, and the meters beside it."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hardware.meters.meter import Meter, Reading
    from profiling.abilities import Info

app = typer.Typer(help="Boards, sensors and power meters.", no_args_is_help=True)
meters = typer.Typer(help="Power meters on a serial port.", no_args_is_help=True)
app.add_typer(meters, name="meters")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PortArgument = Annotated[str, typer.Argument(help="Device file of the port, such as /dev/ttyUSB0.")]
KindOption = Annotated[str | None, typer.Option("--kind", help="Kind of the meter; found out by default.")]
VddOption = Annotated[int | None, typer.Option("--vdd-mv", help="Supply of a PPK2, which measures no voltage.")]

_LOG_COLUMNS = ("t_s", "power_w", "voltage_v", "current_a")


@app.command(epilog="Example:  coda hardware info --json")
def info(as_json: JsonOption = False) -> None:
    """Tell the board, and for each quantity whether and how it can be measured here, or why not."""
    from coda.output import print_json, results
    from profiling.abilities import describe

    found = describe()
    if as_json:
        print_json(found.to_dict())
    else:
        results.print("\n".join(_info_lines(found)), markup=False)


def _info_lines(found: Info) -> list[str]:
    board = found.board
    lines = [f"{board.model} ({board.kind}, {board.machine}, {board.cpu_count} processors)"]
    if board.emulated:
        lines.append("EMULATED instruction set: times and energies say nothing about a real board")
    lines += [f"{name}: {value}" for name, value in found.state.items()]
    width = max(len(ability.quantity) for ability in found.abilities)
    for ability in found.abilities:
        note = f" ({ability.note})" if ability.note else ""
        lines.append(f"  {ability.quantity:{width}} {ability.how or 'not measured: ' + str(ability.why_not)}{note}")
    return lines


@meters.command(name="list", epilog="Example:  coda hardware meters list")
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


@meters.command(epilog="Example:  coda hardware meters read /dev/ttyUSB0")
def read(port: PortArgument, kind: KindOption = None, vdd_mv: VddOption = None, as_json: JsonOption = False) -> None:
    """Read a meter once."""
    from coda.output import print_json, results

    meter = _open(port, kind, vdd_mv)
    try:
        reading = meter.read()[-1]
    finally:
        meter.close()
    values = {"meter": meter.source.name, **dict(zip(_LOG_COLUMNS[1:], _row(reading)[1:], strict=True))}
    if as_json:
        print_json(values)
    else:
        results.print("  ".join(f"{name} {value}" for name, value in values.items()), markup=False)


@meters.command(epilog="Example:  coda hardware meters log /dev/ttyUSB0 --seconds 60 --out power.csv")
def log(
    port: PortArgument,
    seconds: Annotated[float, typer.Option(help="How long to log.", min=0.1)] = 60.0,
    out: Annotated[Path | None, typer.Option(help="CSV file; standard output by default.")] = None,
    kind: KindOption = None,
    vdd_mv: VddOption = None,
) -> None:
    """Log a meter's readings as CSV; says at the end what was lost and what only repeated."""
    from coda.output import console

    meter = _open(port, kind, vdd_mv)
    stream = out.open("w", newline="") if out is not None else sys.stdout
    try:
        written = _log(meter, csv.writer(stream), seconds)
    finally:
        meter.close()
        if out is not None:
            stream.close()
    console.print(f"{meter.source.name}: {written} readings, {meter.lost} lost, {meter.repeated} repeats dropped")


def _log(meter: Meter, rows: Any, seconds: float) -> int:
    rows.writerow(_LOG_COLUMNS)
    begin_s, written = time.monotonic(), 0
    while time.monotonic() - begin_s < seconds:
        for reading in meter.read():
            rows.writerow([f"{reading.at_s - begin_s:.6f}", *_row(reading)[1:]])
            written += 1
    return written


def _row(reading: Reading) -> tuple[float, float, float | None, float | None]:
    return reading.at_s, reading.watts, reading.volts, reading.amps


def _open(port: str, kind: str | None, vdd_mv: int | None) -> Meter:
    from coda.errors import UsageError
    from hardware.meters.autodetect import KINDS, MeterOptions, open_meter

    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind {kind}: use one of {', '.join(KINDS)}")
    return open_meter(port, kind, MeterOptions(vdd_mv=vdd_mv))
