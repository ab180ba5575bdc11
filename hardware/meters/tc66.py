"""The TC66C USB-C meter: ask with ``getva``, get three encrypted blocks of 64 bytes."""

from __future__ import annotations

import struct
import time

from hardware.errors import MeterError
from hardware.meters.meter import Meter, Reading
from hardware.meters.port import Port
from hardware.sensor import Kind, Scope, Source

NAME = "tc66c"
BAUD = 115200
ASK = b"getva"
ANSWER_BYTES = 192
# The same in every meter: it hides nothing, the answer just cannot be read without it.
KEY = bytes.fromhex("5821fa5601b2f02687ff1204622a4fb086f40260816f9a0ba7f106619ab87288")
_BLOCK_BYTES = 64
_ANSWER_S = 1.0
_POLL_S = 0.1


def crc16(data: bytes) -> int:
    """CRC-16 as Modbus has it."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def decrypt(answer: bytes) -> bytes:
    """The plain 192 bytes.

    Raises:
        MeterError: If the library that knows AES is not installed.
    """
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415 (optional)
    except ImportError as error:
        raise MeterError(NAME, "a TC66C needs the package cryptography: pip install cryptography") from error
    decryptor = Cipher(algorithms.AES(KEY), modes.ECB()).decryptor()  # noqa: S305 (the meter's choice, not ours)
    return bytes(decryptor.update(answer) + decryptor.finalize())


def parse(answer: bytes) -> tuple[float, float, float]:
    """Volts, amperes and watts.

    Raises:
        MeterError: If a block has another name or fails its checksum.
    """
    plain = decrypt(answer)
    for number in range(3):
        block = plain[number * _BLOCK_BYTES : (number + 1) * _BLOCK_BYTES]
        if block[:4] != b"pac%d" % (number + 1):
            raise MeterError(NAME, f"block {number + 1} begins with {block[:4]!r}")
        if crc16(block[:60]) != struct.unpack_from("<I", block, 60)[0]:
            raise MeterError(NAME, f"block {number + 1} fails its checksum")
    volts, amps, watts = struct.unpack_from("<III", plain, 48)
    return volts * 1e-4, amps * 1e-5, watts * 1e-4


class Tc66Meter(Meter):
    """A TC66C on an open port."""

    latency_s = 0.1
    still_s = 5.0
    source = Source(NAME, Kind.MEASURED, Scope.BOARD_INPUT, 0.02, "inline USB-C meter")

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        self._last = b""
        self._ask()

    def read(self) -> list[Reading]:
        """The next answer; see `Meter.read`. An equal one is taken for a repetition once, then for a new one."""
        answer = self._ask()
        if answer == self._last:
            self.repeated += 1
            time.sleep(_POLL_S)
            answer = self._ask()
        self._last = answer
        volts, amps, watts = parse(answer)
        return [Reading(time.monotonic(), watts, volts, amps)]

    def _ask(self) -> bytes:
        self._port.discard()
        self._port.write(ASK)
        try:
            answer = self._port.read_until(lambda data: len(data) >= ANSWER_BYTES, _ANSWER_S, "TC66C answer")
            answer = answer[-ANSWER_BYTES:]  # stray bytes come before, never within
            parse(answer)
        except MeterError:
            self.lost += 1
            raise
        return answer
