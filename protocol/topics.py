"""Topic names, their parser, and the bounds that both sides keep. The only place that spells a topic.

``coda/v1/{fleet}/{device}/up/{kind}`` is written by the device alone, ``.../down/{kind}`` read by it alone; the
broker's access list enforces both on the name in the device's certificate. ``coda/v1/{fleet}/blob/{sha256}/{chunk}``
holds a shared blob's chunks, retained: written by the cloud alone, read by any device of the fleet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from protocol.errors import MalformedMessageError

ROOT = "coda/v1"
SHARE_GROUP = "cloud"
SHARED = "blob"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

SCHEMA_VERSION = 1
MAX_MESSAGE_BYTES = 1 << 20
# Powers of two, so that a chunk of one size never straddles two of another.
CHUNK_SIZES = (4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10)
CHUNK_BYTES = 16 << 10  # where nothing is known of the line, and on shared topics
MAX_CHUNK_BYTES = CHUNK_SIZES[-1]
ENVELOPE_BYTES = 1 << 10  # at most, around a chunk's data: topic, MQTT's own and ours
MAX_BLOB_BYTES = 256 << 20
MAX_PROFILE_BYTES = 1 << 10

Direction = Literal["up", "down"]


@dataclass(frozen=True)
class Topic:
    """One parsed topic."""

    fleet: str
    device: str
    direction: Direction
    kind: str

    def __str__(self) -> str:
        return f"{ROOT}/{self.fleet}/{self.device}/{self.direction}/{self.kind}"


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it can stand in a topic and in a certificate.

    Raises:
        MalformedMessageError: If it cannot: 1 to 63 letters, digits, ``_``, ``.`` and ``-``, a letter or digit first.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise MalformedMessageError(
            f"{what} {name[:80]!r}: use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit"
        )
    return name


def up(fleet: str, device: str, kind: str) -> str:
    """Topic on which a device speaks."""
    return str(Topic(check_name(fleet, "fleet"), check_name(device, "device"), "up", kind))


def down(fleet: str, device: str, kind: str) -> str:
    """Topic on which a device is spoken to."""
    return str(Topic(check_name(fleet, "fleet"), check_name(device, "device"), "down", kind))


def parse(topic: str) -> Topic:
    """Take a topic apart.

    Raises:
        MalformedMessageError: If it is not one of ours.
    """
    parts = topic.split("/")
    if len(parts) != 6 or "/".join(parts[:2]) != ROOT or parts[4] not in ("up", "down"):
        raise MalformedMessageError(f"topic {topic[:200]!r}: expected {ROOT}/FLEET/DEVICE/up|down/KIND")
    direction: Direction = "up" if parts[4] == "up" else "down"
    return Topic(check_name(parts[2], "fleet"), check_name(parts[3], "device"), direction, check_name(parts[5], "kind"))


def device_filter(fleet: str, device: str) -> str:
    """Subscription of a device: everything said to it."""
    return down(fleet, device, "+")


def shared_chunk(fleet: str, sha256: str, index: int) -> str:
    """Topic that holds one chunk of a shared blob; a device subscribes to it to have it, and need not ask the cloud."""
    return f"{ROOT}/{check_name(fleet, 'fleet')}/{SHARED}/{sha256}/{index}"


def is_shared_chunk(topic: str, fleet: str) -> bool:
    """Whether a message under ``topic`` is a chunk of a blob that the fleet shares."""
    return topic.startswith(f"{ROOT}/{fleet}/{SHARED}/") and topic.count("/") == 5


def cloud_filter(fleet: str) -> str:
    """Subscription of a cloud worker: everything any device says, shared among the workers."""
    return f"$share/{SHARE_GROUP}/{ROOT}/{check_name(fleet, 'fleet')}/+/up/+"
