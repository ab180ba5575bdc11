"""The Pi 5's power chip through the firmware: device file, program, and every way an answer can be bad."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.discovery import find_sensors
from hardware.errors import SensorError
from hardware.firmware import DeviceFirmware, Firmware, ProgramFirmware, find_firmware
from hardware.pmic import Pi5Pmic, parse_rails
from hardware.sensor import Kind, PowerSensor, Scope
from tests.hardware.trees import PMIC_ANSWER, PMIC_W, pi, program, put


class Mailbox:
    """Stands in for the kernel's ioctl and checks the buffer's layout as the kernel would."""

    def __init__(self, answers: dict[str, str], code: int = 0, fault: int = 0) -> None:
        self.answers = answers
        self.code = code
        self.fault = fault
        self.asked: list[str] = []

    def __call__(self, descriptor: int, request: int, buffer: bytearray, mutate: bool) -> int:
        """Answer one command in place."""
        assert request in (0xC0086400, 0xC0046400)
        assert mutate
        size, status, tag, room, _, _ = struct.unpack_from("=6I", buffer)
        assert (size, status, tag, room) == (len(buffer), 0, 0x00030080, 4096)
        assert buffer[-4:] == bytes(4)
        if self.fault:
            raise OSError(self.fault, "Input/output error")
        command = buffer[24:4120].split(b"\0", 1)[0].decode()
        self.asked.append(command)
        struct.pack_into("=I", buffer, 20, self.code)
        buffer[24:4120] = self.answers[command].encode().ljust(4096, b"\0")
        return 0


ANSWERS = {"version": "2025/01/01", "pmic_read_adc": PMIC_ANSWER, "get_throttled": "throttled=0x50000"}


def _script(extra: str = "") -> str:
    return f"{extra}\ncase $1 in\nversion) echo 2025/01/01;;\npmic_read_adc) cat <<'E'\n{PMIC_ANSWER}E\n;;\nesac"


def test_through_the_device_file(tmp_path: Path) -> None:
    """One ioctl, no process: the sum of twelve products, in milliwatts."""
    device = put(tmp_path, "dev/vcio_gencmd", "")
    mailbox = Mailbox(ANSWERS)
    sensor = Pi5Pmic(DeviceFirmware(device, mailbox))
    assert sensor.power_mw() == pytest.approx(1000 * PMIC_W)
    assert mailbox.asked == ["pmic_read_adc"]
    assert (sensor.source.scope, sensor.source.kind) == (Scope.PMIC_RAILS, Kind.MEASURED)


def test_through_the_program(tmp_path: Path) -> None:
    """Vcgencmd gives the same number."""
    path = program(tmp_path, "usr/bin/vcgencmd", _script())
    assert Pi5Pmic(ProgramFirmware(path)).power_mw() == pytest.approx(1000 * PMIC_W)


def test_choice_of_firmware(tmp_path: Path) -> None:
    """The device file is preferred; where it fails, the program serves; where nothing is, there is the reason."""
    assert "not a Raspberry Pi" in str(find_firmware(tmp_path))
    program(tmp_path, "usr/bin/vcgencmd", _script())
    assert isinstance(find_firmware(tmp_path), ProgramFirmware)
    put(tmp_path, "dev/vcio", "")
    assert isinstance(find_firmware(tmp_path, Mailbox(ANSWERS)), DeviceFirmware)
    assert isinstance(find_firmware(tmp_path, Mailbox(ANSWERS, fault=errno.EIO)), ProgramFirmware)
    assert isinstance(find_firmware(tmp_path, Mailbox(ANSWERS, code=1)), ProgramFirmware)


def test_discovery_corrects_and_says_so(tmp_path: Path) -> None:
    """On a Pi 5 the rails come through the community's correction, whose unknown origin is stated."""
    pi(tmp_path, "Raspberry Pi 5 Model B Rev 1.0", 0xC04170)
    program(tmp_path, "usr/bin/vcgencmd", _script())
    sensor = find_sensors(tmp_path).sensors[0]
    assert isinstance(sensor, PowerSensor)
    assert sensor.power_mw() == pytest.approx(1000 * (1.1451 * PMIC_W + 0.5879), rel=1e-6)
    assert (sensor.source.kind, sensor.source.scope) == (Kind.CORRECTED, Scope.BOARD_INPUT)
    assert "origin unknown" in sensor.source.note


def test_other_boards_have_none(tmp_path: Path) -> None:
    """A Pi 4 has no such chip, and discovery says so."""
    pi(tmp_path, "Raspberry Pi 4 Model B Rev 1.4", 0xC03114)
    assert "only the Raspberry Pi 5" in find_sensors(tmp_path).reasons["pi5-pmic"]


@settings(deadline=None, max_examples=80)
@given(st.integers(0, len(PMIC_ANSWER) - 110))
def test_truncation_is_never_a_smaller_number(length: int) -> None:
    """An answer cut anywhere before its last rail is refused: a partial sum would be a confident wrong number."""
    with pytest.raises(SensorError, match="rails missing"):
        parse_rails(PMIC_ANSWER[:length])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("VDD_CORE_A current(7)=1.54489000A", "VDD_CORE_A current(7)=1.54489000V"),
        ("volt(15)=0.88725180V", "volt(15)=nanV"),
        ("volt(15)=0.88725180V", "volt(15)=-0.88725180V"),
        ("1V1_SYS_A", "1V1_SYS_B"),
    ],
)
def test_garbled_lines(old: str, new: str) -> None:
    """A line with the wrong unit, no number, a sign or another name loses its rail, and so the sum."""
    assert old in PMIC_ANSWER
    with pytest.raises(SensorError, match="1 of 12 rails missing"):
        parse_rails(PMIC_ANSWER.replace(old, new))


def test_all_zero_is_refused(tmp_path: Path) -> None:
    """DDR rails may read exact zero, the whole board may not."""
    import re

    class Dead(Firmware):
        how = "dead"

        def ask(self, command: str) -> str:
            """Every rail at zero."""
            return re.sub(r"=[\d.]+", "=0.00000000", PMIC_ANSWER)

    with pytest.raises(SensorError, match="every rail reads zero"):
        Pi5Pmic(Dead()).power_mw()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "exit 3"),
        ("echo 'error=1 error_msg=\"Command not registered\"'", "Command not registered"),
        ("echo VCHI initialization failed; exit 255", "VCHI initialization failed"),
    ],
)
def test_program_that_refuses(tmp_path: Path, script: str, message: str) -> None:
    """What the program says against it is the reason."""
    with pytest.raises(SensorError, match=message):
        ProgramFirmware(program(tmp_path, "vcgencmd", script)).ask("pmic_read_adc")


def test_device_that_refuses(tmp_path: Path) -> None:
    """EIO from the kernel and a vanished device file are errors; an oversize command is never sent."""
    device = put(tmp_path, "vcio", "")
    with pytest.raises(SensorError, match="Input/output error"):
        DeviceFirmware(device, Mailbox(ANSWERS, fault=errno.EIO)).ask("version")
    with pytest.raises(SensorError, match="at most 4095 fit"):
        DeviceFirmware(device, Mailbox(ANSWERS)).ask("x" * 4096)
    device.unlink()
    with pytest.raises(SensorError, match="No such file"):
        DeviceFirmware(device, Mailbox(ANSWERS)).ask("version")
