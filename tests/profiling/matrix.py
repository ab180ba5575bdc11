"""Every source of energy against every fault: which cells there are, and why the others cannot be.

``python -m tests.profiling.matrix`` prints the table that docs/measuring.md shows.
"""

from __future__ import annotations

FAULTS = (
    "truncation",
    "stale frame",
    "disconnect",
    "counter gap",
    "stray bytes",
    "vanished",
    "EIO",
    "renumbered",
    "wraparound",
)
SENSORS = (
    "pi5-pmic, ioctl",
    "pi5-pmic, vcgencmd",
    "ina3221, JetPack 4",
    "ina3221, JetPack 5",
    "rapl",
    "battery",
    "hwmon, power",
    "hwmon, energy",
    "modelled",
)
SCPI = ("OWON", "EA", "Chroma", "B&K 9130", "EEZ", "Rigol", "Keysight", "unknown dialect")
METERS = (
    "UM24C",
    "UM25C",
    "UM34C",
    "TC66C",
    "PPK2",
    *(f"SCPI, {dialect}" for dialect in SCPI),
    "CSV with time",
    "CSV without time",
)
SOURCES = SENSORS + METERS

_ON_BOARD = "it is soldered to the board; that its files go is 'vanished'"
_NO_COUNTER = "it tells the power of the moment and counts nothing"
_FIXED_FILE = "its path has no number that could change"
_PORT = "the user names the port, best under /dev/serial/by-id; under another number it is 'vanished'"
_COUNTING = ("rapl", "hwmon, energy", "modelled")


def _reasons() -> dict[tuple[str, str], str]:
    found = {(source, "disconnect"): _ON_BOARD for source in SENSORS}
    for source in SOURCES:
        if source not in (*_COUNTING, "PPK2", "CSV with time"):
            found[source, "wraparound"] = _NO_COUNTER
        if source not in (*_COUNTING, "PPK2"):
            found[source, "counter gap"] = _NO_COUNTER
    for source in ("pi5-pmic, ioctl", "pi5-pmic, vcgencmd", "rapl", "battery", "modelled"):
        found[source, "renumbered"] = _FIXED_FILE
    found["ina3221, JetPack 4", "renumbered"] = "its driver gives the one device the number 0"
    found.update({(source, "renumbered"): _PORT for source in METERS})
    found["CSV with time", "counter gap"] = "its clock counts time, not lines, so a lost line is a longer step"
    found["pi5-pmic, vcgencmd", "EIO"] = "the program reports it by its exit, as 'vanished' has it"
    return found


NOT_APPLICABLE = _reasons()
"""Why a cell cannot be."""

CELLS = tuple((source, fault) for source in SOURCES for fault in FAULTS if (source, fault) not in NOT_APPLICABLE)
"""Every cell that is tested."""


def table() -> str:
    """The matrix as Markdown: a tick for a tested cell, a letter for the reason why there is none."""
    letters = {why: chr(ord("a") + place) for place, why in enumerate(dict.fromkeys(NOT_APPLICABLE.values()))}
    lines = ["| | " + " | ".join(FAULTS) + " |", "| --- |" + " :-: |" * len(FAULTS)]
    for source in SOURCES:
        cells = ["✓" if (source, fault) in CELLS else letters[NOT_APPLICABLE[source, fault]] for fault in FAULTS]
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {letter}: {why}" for why, letter in letters.items())])


if __name__ == "__main__":
    print(table())
