"""Which meter is on a port: by its USB identity where it has one, else by asking, the harmless questions first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hardware.errors import MeterError
from hardware.meters import csvline, ppk2, scpi, tc66, um
from hardware.meters.meter import Meter
from hardware.meters.port import Port

KINDS = (csvline.NAME, um.NAME, tc66.NAME, scpi.NAME, ppk2.NAME)
_LISTEN_S = 1.5


@dataclass(frozen=True)
class PortInfo:
    """A serial port of this machine.

    Attributes:
        path: Device file.
        description: What the system says of it.
        kind: The meter that its USB identity stands for, or None.
    """

    path: str
    description: str
    kind: str | None


@dataclass(frozen=True)
class MeterOptions:
    """What some meters must be told.

    Attributes:
        vdd_mv: Supply of a PPK2 in millivolts; it measures no voltage.
        ppk2_source: Whether the PPK2 supplies the board.
        csv_header: Header of a CSV meter that printed it before anyone listened.
        baud: Speed where it is not the family's usual one.
    """

    vdd_mv: int | None = None
    ppk2_source: bool = False
    csv_header: str | None = None
    baud: int | None = None


def list_ports() -> list[PortInfo]:
    """Serial ports that the system shows.

    Raises:
        MeterError: If pyserial is not installed.
    """
    try:
        from serial.tools import list_ports as tools  # noqa: PLC0415 (an optional dependency)
    except ImportError as error:
        raise MeterError("meters", "serial meters need pyserial: pip install 'coda-edge[edge]'") from error
    return [
        PortInfo(port.device, port.description, ppk2.NAME if (port.vid, port.pid) in ppk2.USB_IDS else None)
        for port in sorted(tools.comports())
    ]


def open_meter(path: str, kind: str | None = None, options: MeterOptions | None = None) -> Meter:
    """Open the meter on a port.

    Args:
        path: Device file.
        kind: One of `KINDS`; None to find out.
        options: What some meters must be told.

    Raises:
        MeterError: If there is none of that kind, or none at all; the message says what each question gave.
        ValueError: If the kind is unknown.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"meter kind {kind!r}: use one of {', '.join(KINDS)}")
    options = options or MeterOptions()
    if kind is not None:
        return _openers(path, options)[kind]()
    reasons = []
    for name, opener in _openers(path, options).items():
        try:
            return opener()
        except MeterError as error:
            reasons.append(f"{name}: {error.detail}")
    raise MeterError(path, "no meter found; " + "; ".join(reasons))


def _openers(path: str, options: MeterOptions) -> dict[str, Callable[[], Meter]]:
    return {
        csvline.NAME: lambda: _open_csv(path, options),
        tc66.NAME: lambda: _on_port(path, options.baud or tc66.BAUD, tc66.Tc66Meter),
        um.NAME: lambda: _on_port(path, options.baud or um.BAUD, um.UmMeter),
        scpi.NAME: lambda: _open_scpi(path, options),
        ppk2.NAME: lambda: _open_ppk2(path, options),
    }


def _on_port(path: str, baud: int, make: Callable[[Port], Meter]) -> Meter:
    port = Port(path, baud)
    try:
        return make(port)
    except BaseException:
        port.close()
        raise


def _open_csv(path: str, options: MeterOptions) -> Meter:
    def make(port: Port) -> Meter:
        """Listen only: a meter of this kind speaks without being asked."""
        if options.csv_header is not None:
            return csvline.CsvMeter(port, options.csv_header)
        heard = b""
        deadline_s = time.monotonic() + _LISTEN_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            heard += port.read(left_s)
            for line in heard.split(b"\n")[:-1]:
                header = line.decode("ascii", "replace").strip()
                if csvline.parse_header(header):
                    return csvline.CsvMeter(port, header)
        raise MeterError(path, f"{len(heard)} bytes and no header line within {_LISTEN_S:g} s")

    return _on_port(path, options.baud or csvline.BAUD, make)


def _open_scpi(path: str, options: MeterOptions) -> Meter:
    bauds = (options.baud,) if options.baud else scpi.BAUDS
    reasons = []
    for baud in bauds:
        try:
            return _on_port(path, baud, scpi.ScpiMeter)
        except MeterError as error:
            reasons.append(f"at {baud} baud {error.detail}")
    raise MeterError(path, "; ".join(reasons))


def _open_ppk2(path: str, options: MeterOptions) -> Meter:
    vdd_mv = options.vdd_mv
    if vdd_mv is None:
        raise MeterError(path, "a PPK2 measures no voltage: state its supply in millivolts")
    return _on_port(path, ppk2.BAUD, lambda port: ppk2.Ppk2Meter(port, vdd_mv, source=options.ppk2_source))
