"""Hostile variants of good messages: of their bytes, and of the values inside a msgpack map."""

from __future__ import annotations

import random
import struct
from typing import Any

import msgpack

_EXTREMES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 255, 65_536, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, -(1 << 63),
    float("nan"), float("inf"), -0.0, 1e308, "", "\x00", "a" * 300, "../../etc/passwd", "+/#", b"", b"\xff" * 300,
    [], {}, [[]] * 50, {"a": {"b": {}}},
)  # fmt: skip
_MAX_BYTES = 1 << 17


class Mutator:
    """Draws variants; the same seed draws the same ones."""

    def __init__(self, seeds: list[bytes], seed: int) -> None:
        """Begin with good messages."""
        self._seeds = seeds
        self._random = random.Random(seed)

    def next(self) -> bytes:
        """One more message."""
        draw = self._random
        payload = draw.choice(self._seeds)
        if draw.random() < 0.4:
            payload = self._within_map(payload)
        for _ in range(draw.choice((0, 1, 1, 1, 2, 4))):
            payload = self._bytes(payload)
        return payload[:_MAX_BYTES]

    def _bytes(self, payload: bytes) -> bytes:
        draw = self._random
        data = bytearray(payload)
        at = draw.randrange(len(data) + 1)
        # Most of what decides is at the front: magic, lengths, kinds.
        at = at if draw.random() < 0.5 else min(at, 64)
        kind = draw.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = draw.choice((0, 1, 0x7F, 0x80, 0xDC, 0xDF, 0xC6, 0xC9, 0xFF))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + draw.randrange(1, 16)]
        elif kind == 4:
            data[at:at] = draw.randbytes(draw.randrange(1, 16))
        elif kind == 5:
            value = draw.choice((0, 1, 0xFFFF, 1 << 20, (1 << 31) - 1, (1 << 32) - 1))
            data[at : at + 4] = struct.pack(draw.choice(("<I", ">I")), value)
        elif kind == 6:
            other = draw.choice(self._seeds)
            data[at:] = other[draw.randrange(len(other) + 1) :]
        else:
            data[at:at] = data[at : at + draw.randrange(1, 64)] * draw.randrange(1, 40)
        return bytes(data)

    def _within_map(self, payload: bytes) -> bytes:
        """The same message with a value changed, dropped or added, if it is a map, or begins with a header that is."""
        try:
            if payload[:1] and payload[0] & 0xF0 == 0x80:
                return _packed(self._changed(msgpack.unpackb(payload, raw=False)))
            magic, size = struct.unpack_from("<4sI", payload)
            header = self._changed(msgpack.unpackb(payload[8 : 8 + size], raw=False))
        except Exception:
            return payload  # not of that form; its bytes are mutated all the same
        packed = _packed(header)
        return struct.pack("<4sI", magic, len(packed)) + packed + payload[8 + size :]

    def _changed(self, value: Any) -> Any:
        draw = self._random
        inside = isinstance(value, (dict, list)) and value and draw.random() < 0.9
        if not inside:
            return self._replaced(value)
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw.choice(keys)
        action = draw.random()
        if action < 0.1:
            del value[key]
        elif action < 0.2 and isinstance(value, dict):
            value[draw.choice((7, "x", "b", "id"))] = draw.choice(_EXTREMES)
        elif action < 0.2:
            value.insert(key, draw.choice(_EXTREMES))
        else:
            value[key] = self._changed(value[key])
        return value

    def _replaced(self, value: Any) -> Any:
        draw = self._random
        if isinstance(value, bool) or draw.random() < 0.5:
            return draw.choice(_EXTREMES)
        if isinstance(value, int):
            return value + draw.choice((-1, 1, 7, 1 << 16, 1 << 31))
        if isinstance(value, float):
            return value * draw.choice((-1.0, 1.001, 1e30))
        if isinstance(value, (str, bytes)):
            return value[: draw.randrange(len(value) + 1)] * draw.choice((1, 2))
        return draw.choice(_EXTREMES)


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed
