"""Numbers as a person reads them: three significant digits and a unit; None is a dash."""

from __future__ import annotations

import math

MISSING = "\u2013"  # a dash
_MINUS = "\u2212"
_NARROW_SPACE = "\u202f"


def seconds(value: float | None) -> str:
    """Such as ``35 ms``, ``2.31 s``, ``4.2 min``."""
    if value is None:
        return MISSING
    if value < 1:
        return _join(value * 1000, "ms")
    return _join(value, "s") if value < 120 else _join(value / 60, "min")


def size(value: float | None) -> str:
    """Such as ``812 B``, ``236 kB``, ``84.1 MB``; decimal multiples."""
    if value is None:
        return MISSING
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= divisor:
            return _join(value / divisor, unit)
    return f"{value:.0f}\u00a0B"


def energy(value_mj: float | None) -> str:
    """From millijoules, such as ``850 mJ``, ``6.31 J``, ``1.2 kJ``."""
    if value_mj is None:
        return MISSING
    for unit, divisor in (("kJ", 1e6), ("J", 1e3)):
        if abs(value_mj) >= divisor:
            return _join(value_mj / divisor, unit)
    return _join(value_mj, "mJ")


def power(value_mw: float | None) -> str:
    """From milliwatts, such as ``850 mW``, ``2.31 W``."""
    if value_mw is None:
        return MISSING
    return _join(value_mw / 1000, "W") if abs(value_mw) >= 1000 else _join(value_mw, "mW")


def tick(text: str) -> str:
    """A formatted number for an axis, without trailing zeros: ``25.0 kB`` becomes ``25 kB``."""
    number, _, unit = text.partition("\u00a0")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number}\u00a0{unit}" if unit else number


def fraction(value: float | None, digits: int = 3) -> str:
    """A share or a score such as ``0.812``."""
    return MISSING if value is None else f"{value:.{digits}f}"


def change(value: float | None, digits: int = 3) -> str:
    """A signed difference with the true minus sign, such as ``+0.008``."""
    return MISSING if value is None else f"{value:+.{digits}f}".replace("-", _MINUS)


def count(value: float | None) -> str:
    """A number of things, grouped by thousands; a mean that is not whole keeps one digit."""
    if value is None:
        return MISSING
    text = f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:,.1f}"
    return text.replace(",", _NARROW_SPACE)


def _join(value: float, unit: str) -> str:
    return f"{_significant(value)}\u00a0{unit}"


def _significant(value: float, digits: int = 3) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"
