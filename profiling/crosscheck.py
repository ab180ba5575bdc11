"""Do two sensors of one round agree, and may two values be compared at all?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from hardware.sensor import Kind, Scope
from profiling.energy_record import EnergyRecord, EnergySource
from profiling.record import PhaseRecord, RoundRecord

_ORDER = [scope.value for scope in Scope]
_NESTED = set(_ORDER) - {Scope.BATTERY.value, Scope.COMPONENT.value}  # each of these contains the next


def cross_check(energies: Sequence[EnergyRecord]) -> list[str]:
    """What is wrong between the sensors of one round, each a sentence.

    Two of the same scope must agree within their bars together; of two nested scopes, the narrower must not draw more
    than the wider. Models are not held against measurements: that they differ is expected.
    """
    return [sentence for wide, narrow in _pairs(energies) if (sentence := _compare(wide, narrow))]


def agreements(record: RoundRecord) -> list[str]:
    """What was held against something else in one round and was found to fit, each a sentence."""
    found = []
    for wide, narrow in _pairs(record.energies):
        if {wide.source.scope, narrow.source.scope} <= _NESTED and _compare(wide, narrow) is None:
            names = f"{narrow.source.name} and {wide.source.name}"
            same = wide.source.scope == narrow.source.scope
            found.append(f"{names} {'agree within their bars' if same else 'fit: the narrower draws no more'}")
    if any(_has_both(phase) for phase in record.phases) and not any(check_bytes(phase) for phase in record.phases):
        found.append("the interfaces carried at least the connection's own TCP bytes in every phase")
    return found


def _pairs(energies: Sequence[EnergyRecord]) -> list[tuple[EnergyRecord, EnergyRecord]]:
    """Measured energies by twos, the wider scope first."""
    known = [energy for energy in energies if energy.gross_mj is not None and energy.source.kind != Kind.MODELLED.value]
    by_scope = sorted(known, key=lambda energy: _ORDER.index(energy.source.scope))
    return list(combinations(by_scope, 2))


def _has_both(phase: PhaseRecord) -> bool:
    own = phase.tcp_up_bytes is not None and phase.tcp_down_bytes is not None
    return own and "interface_up_bytes" in phase.counters


def contradictions(record: RoundRecord) -> list[str]:
    """Everything in one round that cannot be true together, each a sentence."""
    found = [f"{phase.name}: {wrong}" for phase in record.phases if (wrong := check_bytes(phase))]
    return cross_check(record.energies) + found


def _compare(wide: EnergyRecord, narrow: EnergyRecord) -> str | None:
    excess_mj = (narrow.gross_mj or 0.0) - (wide.gross_mj or 0.0)
    bar_mj = math.hypot(wide.u95_mj or 0.0, narrow.u95_mj or 0.0)
    names = f"{narrow.source.name} ({narrow.source.scope}) and {wide.source.name} ({wide.source.scope})"
    if wide.source.scope == narrow.source.scope and wide.source.scope != Scope.COMPONENT.value:
        if abs(excess_mj) > bar_mj:
            return f"{names} differ by {abs(excess_mj) / 1000:.3g} J, their bars allow {bar_mj / 1000:.3g} J"
    elif {wide.source.scope, narrow.source.scope} <= _NESTED and excess_mj > bar_mj:
        return f"{names}: the narrower draws {excess_mj / 1000:.3g} J more than the wider, which cannot be"
    return None


def check_bytes(phase: PhaseRecord) -> str | None:
    """What is wrong between the connection's own count of bytes and the interfaces', or None.

    Interfaces carry every process's traffic, headers included, so they can only show more.
    """
    counters = phase.counters
    if not _has_both(phase):
        return None
    looped = counters.get("loopback_bytes", 0.0)
    for way, own in (("up", phase.tcp_up_bytes or 0), ("down", phase.tcp_down_bytes or 0)):
        seen = counters.get(f"interface_{way}_bytes", 0.0) + looped
        if own > seen:
            return f"the connection counts {own} TCP bytes {way}, all interfaces together only {seen:.0f}"
    return None


def why_incomparable(first: EnergySource, second: EnergySource) -> str | None:
    """Why energies of two sources must not be added or ranked, or None where they may."""
    if first.kind != second.kind:
        return f"one is {first.kind}, the other {second.kind}"
    if first.scope != second.scope:
        return f"one covers {first.scope}, the other {second.scope}"
    return None
