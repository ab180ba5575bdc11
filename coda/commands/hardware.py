"""`coda hardware`: what this machine is, what can be measured on it, and its calibration against a meter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coda.commands import meters
from coda.commands.meters import (
    BaudOption,
    HeaderOption,
    JsonOption,
    KindOption,
    PortArgument,
    SourceOption,
    VddOption,
)

if TYPE_CHECKING:
    from hardware.calibration import Calibration
    from hardware.modelled import Utilisation
    from hardware.sensor import PowerSensor, Sensor
    from profiling.abilities import Info
    from profiling.calibrate import Step

app = typer.Typer(help="Boards, sensors and power meters.", no_args_is_help=True)
app.add_typer(meters.app, name="meters")

CALIBRATIONS = Path("calibrations")

RootOption = Annotated[
    Path, typer.Option("--root", help="Where the system's files hang, as in a container.", exists=True, file_okay=False)
]


@app.command(epilog="Example:  coda hardware info --json")
def info(
    calibrations: Annotated[
        Path | None, typer.Option(help="Folder of this board's calibrations.", exists=True, file_okay=False)
    ] = None,
    root: RootOption = Path("/"),
    as_json: JsonOption = False,
) -> None:
    """Tell the board, and for each quantity whether and how it can be measured here, or why not."""
    from coda.output import print_json, results
    from hardware.calibration import load_calibrations
    from profiling.abilities import describe

    found = describe(root, load_calibrations(calibrations) if calibrations is not None else ())
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


@app.command(epilog="Example:  coda hardware calibrate /dev/ttyUSB0 --out calibrations")
def calibrate(
    port: PortArgument,
    source: Annotated[
        str | None,
        typer.Option(help="What to calibrate: a power sensor's name, or modelled; the widest one by default."),
    ] = None,
    step_seconds: Annotated[float, typer.Option(help="Seconds of each of ten loads.", min=1.0, max=600.0)] = 10.0,
    out: Annotated[Path, typer.Option(help="Folder of calibrations.")] = CALIBRATIONS,
    kind: KindOption = None,
    baud: BaudOption = None,
    csv_header: HeaderOption = None,
    vdd_mv: VddOption = None,
    ppk2_source: SourceOption = False,
    root: RootOption = Path("/"),
    as_json: JsonOption = False,
) -> None:
    """Step the processors' load with a meter beside the board, and fit the board's own source to it.

    Let nothing else run meanwhile. Half of the steps fit the line, the other half say how far to trust it. Name the
    folder as `calibrations` in the device's configuration, and its reports cite the calibration's id.
    """
    from coda.output import print_json, results

    chosen = _source(root, source)
    reference = meters.open_stream(port, kind, meters.meter_options(baud, csv_header, vdd_mv, ppk2_source))
    try:
        calibration = _calibrate(chosen, reference, step_seconds, root)
    finally:
        reference.close()
    path = calibration.save(out)
    if as_json:
        print_json({**vars(calibration), "id": calibration.id, "path": str(path)})
    else:
        results.print(_verdict(calibration), markup=False)
        results.print(f"written: {path}", markup=False)


def _source(root: Path, name: str | None) -> PowerSensor | Utilisation:
    """The sensor of that name, before any correction; by default the widest one, else the utilisation.

    Raises:
        UsageError: If there is none of that name.
    """
    from coda.errors import UsageError
    from hardware import modelled
    from hardware.correction import CorrectedPower
    from hardware.discovery import find_sensors
    from hardware.sensor import PowerSensor, Scope

    found = [sensor for sensor in find_sensors(root).sensors if isinstance(sensor, PowerSensor)]
    sensors = [sensor.inner if isinstance(sensor, CorrectedPower) else sensor for sensor in found]
    by_name = {sensor.source.name: sensor for sensor in sensors}
    # A component says little of what the whole board draws; who wants one calibrated names it.
    whole = [name for name, sensor in by_name.items() if sensor.source.scope is not Scope.COMPONENT]
    chosen = name or next(iter(whole), modelled.NAME)
    if chosen == modelled.NAME:
        return modelled.Utilisation(root)
    if chosen not in by_name:
        raise UsageError(f"--source {chosen}: use one of {', '.join([*by_name, modelled.NAME])}")
    return by_name[chosen]


def _calibrate(source: PowerSensor | Utilisation, reference: Sensor, step_s: float, root: Path) -> Calibration:
    from coda.output import console, progress
    from hardware import modelled
    from hardware.sensor import Sensor
    from profiling.calibrate import LOADS, fit, run_steps

    name = source.source.name if isinstance(source, Sensor) else modelled.NAME
    console.print(f"{name} against {reference.source.name}: {len(LOADS)} loads of {step_s:g} s each", markup=False)
    steps: list[Step] = []
    with progress() as bars:
        bar = bars.add_task("calibrating", total=len(LOADS))
        for step in run_steps(source, reference, step_s=step_s):
            steps.append(step)
            console.print(f"load {step.load:4.0%}: {_said(name, step)}, meter {step.reference_mw:.0f} mW", markup=False)
            bars.advance(bar)
    return fit(steps, name, reference, root)


def _said(name: str, step: Step) -> str:
    from hardware import modelled

    return f"busy {step.source:.0%}" if name == modelled.NAME else f"{name} {step.source:.0f} mW"


def _verdict(calibration: Calibration) -> str:
    return (
        f"calibration {calibration.id}: {calibration.source} against {calibration.reference} on this unit, "
        f"±{calibration.relative_u95:.1%} at 95%"
    )
