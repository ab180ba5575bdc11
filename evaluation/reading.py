"""What was left out while a file was read, and what was strange about what was not: counted, and told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reading:
    """How a file was read.

    Attributes:
        rows: Rows in the file, its header not counted.
        left_out: Rows left out, by reason.
        first_at: For each reason, number of the first such row, counted from 1.
        remarks: What is worth knowing of rows that were kept: how many, by what it is.
        notes: What was decided about the columns, in words.
    """

    rows: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    first_at: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people: one line a count."""
        left_out = [
            f"left out {count:,} of {self.rows:,} rows: {reason} (first at row {self.first_at[reason]:,})"
            if reason in self.first_at
            else f"left out {count:,} rows: {reason}"
            for reason, count in self.left_out.items()
        ]
        remarks = [f"{count:,} {what}" for what, count in self.remarks.items() if count]
        return [*left_out, *remarks, *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files."""
        return {
            "rows": self.rows,
            "left_out": dict(self.left_out),
            "remarks": dict(self.remarks),
            "notes": list(self.notes),
        }


class Tally:
    """Counts while a file is read."""

    def __init__(self) -> None:
        self.rows = 0
        self.left_out: dict[str, int] = {}
        self.first_at: dict[str, int] = {}
        self.remarks: dict[str, int] = {}
        self.notes: list[str] = []

    def leave_out(self, reason: str, row: int, count: int = 1) -> None:
        """A row cannot be used."""
        if count:
            self.left_out[reason] = self.left_out.get(reason, 0) + count
            self.first_at[reason] = min(row, self.first_at.get(reason, row))

    def remark(self, what: str, count: int = 1) -> None:
        """Rows were used, but."""
        if count:
            self.remarks[what] = self.remarks.get(what, 0) + count

    def reading(self) -> Reading:
        """The counts so far."""
        return Reading(
            self.rows, dict(self.left_out), dict(self.first_at), dict(self.remarks), tuple(dict.fromkeys(self.notes))
        )
