"""Round records survive the trip through JSON, and bad ones are refused by name."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import profiling
from profiling.counters import MEANINGS
from profiling.energy_record import EnergyRecord, EnergySource, Overhead
from profiling.errors import RecordError
from profiling.record import Outcome, PhaseRecord, RoundRecord, total
from tests.profiling.samples import record

SCHEMA = json.loads((Path(profiling.__file__).parent / "round_record.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

amounts = st.floats(0, 1e9, allow_nan=False)
counts = st.none() | st.integers(0, 1 << 60)
phase_records = st.builds(
    PhaseRecord,
    name=st.text(min_size=1, max_size=20),
    elapsed_s=amounts,
    cpu_user_s=amounts,
    cpu_system_s=amounts,
    peak_rss_bytes=counts,
    cgroup_peak_bytes=counts,
    payload_up_bytes=counts,
    payload_down_bytes=counts,
    mqtt_up_bytes=counts,
    mqtt_down_bytes=counts,
    tcp_up_bytes=counts,
    tcp_down_bytes=counts,
    energy_mj=st.none() | amounts,
    energy_u95_mj=st.none() | amounts,
    level=st.integers(0, 5),
    counters=st.dictionaries(st.sampled_from(sorted(MEANINGS)), amounts, max_size=4),
    started_unix_s=st.none() | amounts,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(phase_records, max_size=9))
def test_round_trip_and_schema(phases: list[PhaseRecord]) -> None:
    """Any record comes back equal from JSON and fits the documented schema."""
    original = replace(record(), phases=tuple(phases))
    text = json.dumps(original.to_dict())
    VALIDATOR.validate(json.loads(text))
    assert RoundRecord.from_dict(json.loads(text)) == original


def test_schema_documents_every_field() -> None:
    """The schema has exactly the dataclasses' fields, each with a description."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    pairs: list[tuple[type, dict[str, Any]]] = [
        (PhaseRecord, SCHEMA["$defs"]["phase"]),
        (Outcome, SCHEMA["$defs"]["outcome"]),
        (EnergySource, SCHEMA["$defs"]["energy_source"]),
        (EnergyRecord, SCHEMA["$defs"]["energy"]),
        (Overhead, SCHEMA["$defs"]["overhead"]),
        (RoundRecord, SCHEMA),
    ]
    for cls, part in pairs:
        extra = {"totals"} if cls is RoundRecord else set()
        assert set(part["properties"]) == {f.name for f in fields(cls)} | extra
        assert all("description" in value or "$ref" in value for value in part["properties"].values())


def test_totals() -> None:
    """Totals add the phases of level 0, take the largest peak, and lack what one phase lacks."""
    full = record()
    nested = replace(full.phases[3], level=1)
    again = replace(full, phases=(*full.phases, nested))
    assert again.totals == full.totals
    assert full.totals.elapsed_s == pytest.approx(sum(p.elapsed_s for p in full.phases))
    assert full.totals.peak_rss_bytes == max(p.peak_rss_bytes or 0 for p in full.phases)
    hole = (*full.phases[:-1], replace(full.phases[-1], energy_mj=None))
    assert total("round", hole).energy_mj is None
    assert total("round", ()) == PhaseRecord("round", 0, 0, 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema_version",), 2, "schema version 2, this program reads 1"),
        (("device",), 7, "round record.device: expected str"),
        (("task_version",), True, "task_version: expected int"),
        (("phases", 0, "elapsed_s"), -1.0, "elapsed_s must not be negative"),
        (("phases", 2, "elapsed_s"), float("nan"), r"phases\[2\].elapsed_s: nan is not a finite"),
        (("phases", 1, "surprise"), 1, r"unknown fields \['surprise'\]"),
        (("phases", 0, "name"), "", "a name is required"),
        (("phases",), "none", "phases: expected"),
        (("outcome", "samples_kept"), -3, "samples_kept must not be negative"),
        (("outcome", "decision"), "", "a decision is required"),
        (("outcome", "metrics", "gain"), "big", "metrics.gain: expected float"),
        (("outcome",), None, "outcome: expected a map"),
        (("emulated",), [1], r"emulated\[0\]: expected str"),
    ],
)
def test_bad_records(path: tuple[str | int, ...], value: object, message: str) -> None:
    """Each kind of damage is refused with the field's name."""
    values: Any = record().to_dict()
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(RecordError, match=message):
        RoundRecord.from_dict(values)


def test_missing_field_and_not_a_map() -> None:
    """A missing field is named; a list is no record."""
    values = record().to_dict()
    del values["outcome"]
    with pytest.raises(RecordError, match="outcome"):
        RoundRecord.from_dict(values)
    with pytest.raises(RecordError, match="expected a map"):
        RoundRecord.from_dict([values])
