"""Bench supplies and meters that speak SCPI over a serial port, each family with its own word for power."""

from __future__ import annotations

import re
import time

from hardware.errors import MeterError
from hardware.meters.meter import Meter, Reading
from hardware.meters.port import Port
from hardware.sensor import Kind, Scope, Source

NAME = "scpi"
BAUDS = (115200, 9600)
_ANSWER_S = 1.0
_OVERLOAD = 9.9e37
_MOST_TRIES = 2
# Power against volts times amperes, and volts against volts: a load may step in between, an answer to another question
# is further off.
_MOST_RATIO = 2.0
_LEAST_W = 0.1
# What the identification matches, and how power is asked; None where it is not, and volts and amperes are multiplied.
_DIALECTS = (
    (r"OWON|EA[- ]|Elektro-Automatik|Chroma.*62\d{3}", "MEAS:POW?"),
    (r"9130|EEZ|Envox", ":MEAS:POWER?"),
    (r"RIGOL.*DP[78]", ":MEAS:POWE?"),
    (r"Keysight.*(N57|E363)|Agilent.*(N57|E363)", None),
)
_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([mu]?[VAW])?\s*")
_UNITS = {"m": 1e-3, "u": 1e-6}


def power_command(identification: str) -> str | None:
    """How this instrument is asked for power; None if it is not known to tell."""
    for pattern, command in _DIALECTS:
        if re.search(pattern, identification, re.I):
            return command
    return None


def parse_number(reply: str) -> float:
    """A number such as ``4.99``, ``+4.9900E+00``, ``512 mA``, in the unit without prefix.

    Raises:
        MeterError: If the reply is no number, or says overload.
    """
    found = _NUMBER.fullmatch(reply)
    if found is None:
        raise MeterError(NAME, f"expected a number, got {reply[:40]!r}")
    value = float(found[1])
    if abs(value) >= _OVERLOAD:
        raise MeterError(NAME, "the instrument says overload")
    prefix = (found[2] or " ")[0] if len(found[2] or "") == 2 else ""
    return value * _UNITS.get(prefix, 1.0)


def _near(first: float, second: float, slack: float) -> bool:
    low, high = sorted((abs(first), abs(second)))
    return high <= _MOST_RATIO * low + slack


class ScpiMeter(Meter):
    """An instrument on an open port."""

    still_s = 20.0  # some show three digits

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        port.write(b"\n")  # ends whatever the instrument was asked before, perhaps for another meter
        self.identification = self._query("*IDN?")
        if self.identification.count(",") < 1:
            raise MeterError(NAME, f"*IDN? gave {self.identification[:40]!r}, which identifies no instrument")
        self._power = power_command(self.identification)
        how = "power as it states it" if self._power else "volts times amperes, which were not taken at once"
        name = f"{NAME}-{'-'.join(self.identification.lower().split(',')[:2]).replace(' ', '-')}"
        self.source = Source(name, Kind.MEASURED, Scope.BOARD_INPUT, 0.02, f"{self.identification}; {how}")

    def read(self) -> list[Reading]:
        """Volts, amperes and power; see `Meter.read`."""
        for _ in range(_MOST_TRIES):
            begin_s = time.monotonic()
            volts, amps = (parse_number(self._query(f"MEAS:{what}?")) for what in ("VOLT", "CURR"))
            # What is asked last also tells whether the answers are those to these questions.
            if self._power:
                watts = parse_number(self._query(self._power))
                agrees = _near(watts, volts * amps, _LEAST_W)
            else:
                watts, agrees = volts * amps, _near(parse_number(self._query("MEAS:VOLT?")), volts, 0.0)
            if agrees:
                return [Reading((begin_s + time.monotonic()) / 2, watts, volts, amps)]
            self.lost += 1
        raise MeterError(NAME, f"{volts:g} V, {amps:g} A and {watts:g} W do not fit: answers to other questions?")

    def _query(self, command: str) -> str:
        self._port.discard()
        self._port.write(command.encode() + b"\n")
        try:
            data = self._port.read_until(lambda data: data.endswith((b"\n", b"\r")), _ANSWER_S, command)
            return data.decode("ascii").strip()
        except UnicodeDecodeError as error:
            self.lost += 1
            raise MeterError(NAME, f"{command}: the reply is no text; another speed or another meter?") from error
        except MeterError:
            self.lost += 1
            raise
