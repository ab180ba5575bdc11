"""Cohorts: which devices of a fleet something is for. Releases of the software, tasks and experiments share them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from cloud_broker.errors import CohortError

MAX_TAGS = 32
_TAG = re.compile(r"([A-Za-z0-9._-]{1,64})=([A-Za-z0-9._-]{1,64})")


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """A device is in it that fits all of these.

    Attributes:
        percent: Of the devices that fit the rest, by a stable hash: a larger share has those of a smaller one too.
        devices: Only these, if any is named.
        board: Only boards whose name matches this pattern, such as ``Raspberry Pi 5*``.
        tags: Only devices that have each of these, ``key=value``.

    Raises:
        CohortError: If a value cannot be.
    """

    percent: float = 100.0
    devices: tuple[str, ...] = ()
    board: str = "*"
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise CohortError(f"{self.percent:g} percent of a fleet: above 0, at most 100")
        for tag in self.tags:
            check_tag(tag)

    def has(self, device: str, board: str, salt: str, tags: Collection[str] = ()) -> bool:
        """Whether a device is in it.

        Args:
            device: Its name.
            board: Its board, as its hello said; empty before the first.
            salt: What the cohort is for; for another thing other devices come first.
            tags: Its tags.
        """
        if self.devices and device not in self.devices:
            return False
        fits = fnmatchcase(board, self.board) and set(self.tags) <= set(tags)
        return fits and share_of(device, salt) < self.percent / 100

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for databases and JSON."""
        return asdict(self) | {"devices": list(self.devices), "tags": list(self.tags)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cohort:
        """Inverse of `to_dict`; what is absent takes its default."""
        lists = {name: tuple(values.get(name, ())) for name in ("devices", "tags")}
        return cls(**{**values, **lists})

    def __str__(self) -> str:
        said = [f"{self.percent:g}%"]
        said += [f"of {', '.join(self.devices)}"] if self.devices else []
        said += [f"on {self.board}"] if self.board != "*" else []
        return " ".join([*said, *(["tagged", ", ".join(self.tags)] if self.tags else [])])


def share_of(device: str, salt: str) -> float:
    """A device's place among all, 0 to 1: the same each time, another for another ``salt``."""
    digest = hashlib.sha256(f"{salt}/{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / (1 << 64)


def check_tag(tag: str) -> tuple[str, str]:
    """Key and value of a tag.

    Raises:
        CohortError: If it is not ``key=value``, each of 1 to 64 letters, digits, dots, underscores and hyphens.
    """
    found = _TAG.fullmatch(tag)
    if found is None:
        raise CohortError(f"tag {tag[:140]!r}: like shop=berlin; letters, digits and . _ - on both sides, up to 64")
    return found[1], found[2]
