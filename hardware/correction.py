"""A linear correction of a power sensor: a stated formula, or a calibration against a better meter."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware.errors import SensorError
from hardware.sensor import Kind, PowerSensor, Scope


@dataclass(frozen=True)
class Correction:
    """Corrected power is ``scale`` times the reading plus ``offset_mw``.

    Attributes:
        name: Names it in reports; a calibration's id.
        scale: Without unit.
        offset_mw: Milliwatts.
        scope: What the corrected value covers.
        relative_u95: Half-width of the 95% interval of what comes out, as a share.
        note: Where it comes from.
    """

    name: str
    scale: float
    offset_mw: float
    scope: Scope
    relative_u95: float
    note: str


class CorrectedPower(PowerSensor):
    """A power sensor seen through a correction.

    Attributes:
        inner: The sensor itself.
    """

    def __init__(self, inner: PowerSensor, correction: Correction) -> None:
        self.inner = inner
        self._correction = correction
        self.latency_s = inner.latency_s
        self.still_s = inner.still_s
        self.most_hz = inner.most_hz
        kind = Kind.MODELLED if inner.source.kind is Kind.MODELLED else Kind.CORRECTED
        note = f"{inner.source.note}; corrected by {correction.name}: {correction.note}"
        self.source = replace(
            inner.source,
            name=f"{inner.source.name}+{correction.name}",
            kind=kind,
            scope=correction.scope,
            relative_u95=correction.relative_u95,
            note=note,
        )

    def power_mw(self) -> float:
        """Corrected milliwatts.

        Raises:
            SensorError: If the sensor cannot be read, or the correction makes its reading negative.
        """
        power_mw = self._correction.scale * self.inner.power_mw() + self._correction.offset_mw
        if power_mw < 0:
            raise SensorError(self.source.name, f"the correction gives {power_mw:.0f} mW, which is no power")
        return power_mw

    def close(self) -> None:
        """Close the sensor behind it."""
        self.inner.close()
