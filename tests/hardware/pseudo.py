"""Meters at the other end of a pseudo terminal, speaking the real formats, with the faults that real ones have."""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import select
import struct
import threading
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hardware.meters import tc66, um
from hardware.meters.tc66 import KEY, crc16


class Device:
    """The far end of a port: answers what it is asked, or speaks by itself.

    Args:
        answer: Takes what was received so far; returns what to send and how many bytes it has used up.
        speech: Said unasked, every 20 ms from the beginning.
    """

    def __init__(self, answer: Callable[[bytes], tuple[bytes, int]], speech: bytes = b"") -> None:
        self.controller, self._terminal = pty.openpty()
        self.path = os.ttyname(self._terminal)
        self._answer = answer
        self._speech = speech
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Speak unasked."""
        os.write(self.controller, data)

    def close(self) -> None:
        """Unplug."""
        if self._thread.is_alive():
            os.write(self._stop_write, b"x")
        self._thread.join()
        for descriptor in (self.controller, self._terminal, self._stop_read, self._stop_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _run(self) -> None:
        heard = b""
        while True:
            ready, _, _ = select.select([self.controller, self._stop_read], [], [], 0.02 if self._speech else None)
            if self._stop_read in ready:
                return
            if not ready:
                self.send(self._speech)
                continue
            try:
                heard += os.read(self.controller, 4096)
            except OSError:
                return
            reply, used = self._answer(heard)
            heard = heard[used:]
            if reply:
                self.send(reply)


@contextlib.contextmanager
def device(answer: Callable[[bytes], tuple[bytes, int]], speech: bytes = b"") -> Iterator[Device]:
    """A device for the time of a test."""
    made = Device(answer, speech)
    try:
        yield made
    finally:
        made.close()


def silent(heard: bytes) -> tuple[bytes, int]:
    """Answers nothing."""
    return b"", len(heard)


def um_frame(model: int = 0x09C9, volts: float = 5.0, amps: float = 0.5, *, watts: float | None = None) -> bytes:
    """One frame of 130 bytes as a UM meter sends it."""
    fine = model == 0x09C9
    volt_steps, amp_steps = round(volts * (1000 if fine else 100)), round(amps * (10_000 if fine else 1000))
    frame = bytearray(130)
    struct.pack_into(
        ">HHHI", frame, 0, model, volt_steps, amp_steps, round((volts * amps if watts is None else watts) * 1000)
    )
    struct.pack_into(">HHH", frame, 10, 31, 87, 0)
    for group in range(10):
        struct.pack_into(">II", frame, 16 + 8 * group, 120 + group, 600 + group)
    struct.pack_into(">HHH", frame, 96, 271, 270, 7)
    struct.pack_into(">II", frame, 102, 15, 75)
    struct.pack_into(">HI", frame, 110, 10, 360)
    struct.pack_into(">I", frame, 122, 100)
    frame[128:130] = b"\xff\xf1" if model != 0x0D4C else b"\x00\x5a"
    return bytes(frame)


def tc66_answer(volts: float, amps: float, *, spoil: int | None = None) -> bytes:
    """Three encrypted blocks as a TC66C sends them; ``spoil`` flips a bit of the plain text after its checksum."""
    plain = bytearray()
    for number in (1, 2, 3):
        block = bytearray(64)
        block[:4] = b"pac%d" % number
        if number == 1:
            block[4:8] = b"TC66"
            struct.pack_into("<III", block, 48, round(volts / 1e-4), round(amps / 1e-5), round(volts * amps / 1e-4))
        struct.pack_into("<I", block, 60, crc16(bytes(block[:60])))
        plain += block
    if spoil is not None:
        plain[spoil] ^= 1
    encryptor = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()  # noqa: S305 (the meter's choice)
    return encryptor.update(bytes(plain)) + encryptor.finalize()


PPK2_METADATA = (
    "Calibrated: 0\nR0: 1003.3506\nR1: 101.5865\nR2: 10.3027\nR3: 0.9636\nR4: 0.0564\n"
    "GS0: 0.0000\nGS1: 112.7890\nGS2: 18.0115\nGS3: 2.4217\nGS4: 0.0729\n"
    "GI0: 1.0000\nGI1: 0.9695\nGI2: 0.9609\nGI3: 0.9519\nGI4: 0.9582\n"
    "O0: 112.9420\nO1: 75.4627\nO2: 64.6020\nO3: 50.4983\nO4: 96.7506\n"
    "S0: 0.0000\nS1: -0.0000\nS2: 0.0000\nS3: 0.0000\nS4: 0.0000\n"
    "I0: -0.0000\nI1: -0.0000\nI2: -0.0000\nI3: -nan\nI4: -0.0000\n"
    "UG0: 1.00\nUG1: 1.00\nUG2: 1.00\nUG3: 1.00\nUG4: 1.00\nHW: 9173\nIA: 56\nEND\n"
)


def ppk2_samples(count: int, adc: int = 2000, span: int = 4, first: int = 0) -> bytes:
    """Samples with a rising counter."""
    return b"".join(struct.pack("<I", adc | span << 14 | ((first + i) % 64) << 18) for i in range(count))


def um_answers(*frames: bytes) -> Callable[[bytes], tuple[bytes, int]]:
    """One frame a question, the last for ever."""
    queue = itertools.chain(frames, itertools.repeat(frames[-1]))
    return lambda heard: (b"".join(next(queue) for _ in range(heard.count(um.ASK))), len(heard))


def tc66_answers(*answers: bytes) -> Callable[[bytes], tuple[bytes, int]]:
    """One answer a question, the last for ever."""
    queue = itertools.chain(answers, itertools.repeat(answers[-1]))

    def answer(heard: bytes) -> tuple[bytes, int]:
        asked = heard.count(tc66.ASK)
        return b"".join(next(queue) for _ in range(asked)), len(heard) if asked else 0

    return answer


def scpi_instrument(replies: dict[str, str]) -> Callable[[bytes], tuple[bytes, int]]:
    """Answers known commands and is silent on others, as instruments are."""

    def answer(heard: bytes) -> tuple[bytes, int]:
        *commands, rest = heard.split(b"\n")
        out = "".join(replies[c.decode("latin-1")] + "\n" for c in commands if c.decode("latin-1") in replies)
        return out.encode(), len(heard) - len(rest)

    return answer


def ppk2_kit(sample_chunks: list[bytes]) -> Callable[[bytes], tuple[bytes, int]]:
    """Metadata when asked, samples once started."""

    def answer(heard: bytes) -> tuple[bytes, int]:
        out = PPK2_METADATA.encode() if b"\x19" in heard else b""
        if heard.endswith(b"\x06"):
            out += b"".join(sample_chunks)
        return out, len(heard)

    return answer
