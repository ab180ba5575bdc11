from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given

from protocol.errors import MalformedMessageError
from protocol.schema import MAX_FEATURES, RESERVED_NAMES, Feature, FeatureKind, FeatureSchema
from tests.protocol.strategies import PROPERTY, schemas

ITEM = Feature("item", FeatureKind.CATEGORICAL, vocabulary=100, table="item")
LIKED = Feature("liked", FeatureKind.SEQUENCE, 20, 100, "item")
PRICE = Feature("price", FeatureKind.DENSE, 2)


@PROPERTY
@given(schemas())
def test_plain_values_round_trip_through_json(schema: FeatureSchema) -> None:
    """A schema survives a file or a message unchanged."""
    assert FeatureSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_digest_is_fixed() -> None:
    """The digest is part of the wire format: that of the plain values as JSON without spaces, keys sorted."""
    canonical = (
        '{"features":[{"kind":"categorical","length":1,"name":"item","table":"item","vocabulary":100},'
        '{"kind":"dense","length":2,"name":"price","table":null,"vocabulary":null}]}'
    )
    assert FeatureSchema((ITEM, PRICE)).digest == hashlib.sha256(canonical.encode()).hexdigest()[:12]


def test_digest_tells_schemas_apart() -> None:
    """Order, length and vocabulary all matter."""
    shorter = Feature("liked", FeatureKind.SEQUENCE, 10, 100, "item")
    variants = [(ITEM, LIKED), (LIKED, ITEM), (ITEM, shorter), (ITEM,), (ITEM, LIKED, PRICE)]
    assert len({FeatureSchema(features).digest for features in variants}) == len(variants)


def test_shapes_and_dtypes_by_kind() -> None:
    """A categorical feature is flat int32, the others have a column a value, dense ones in float32."""
    assert (ITEM.shape(3), ITEM.dtype) == ((3,), "int32")
    assert (LIKED.shape(3), LIKED.dtype) == ((3, 20), "int32")
    assert (PRICE.shape(3), PRICE.dtype) == ((3, 2), "float32")


def test_lookup_and_tables() -> None:
    """Features are found by name; a shared table counts once, a dense feature has none."""
    schema = FeatureSchema((ITEM, LIKED, PRICE))
    assert schema["liked"] is LIKED
    assert schema.tables == {"item": 100}
    with pytest.raises(KeyError):
        schema["absent"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "two words"}, "identifier"),
        ({"name": ""}, "identifier"),
        *(({"name": name}, "none of") for name in sorted(RESERVED_NAMES)),
        ({"length": 0}, "length 0"),
        ({"length": 1025}, "length 1025"),
        ({"length": 2.5}, "length 2.5"),
        ({"length": True}, "length True"),
        ({"kind": "categorical"}, "one column"),
        ({"kind": "dense"}, "no vocabulary"),
        ({"vocabulary": 1}, "vocabulary 1"),
        ({"vocabulary": None}, "vocabulary None"),
        ({"vocabulary": 3.0}, "vocabulary 3.0"),
        ({"vocabulary": (1 << 31) + 1}, "vocabulary 2147483649"),
        ({"table": None}, "table"),
        ({"table": 5}, "table"),
        ({"kind": "audio"}, "audio"),
        ({"kind": []}, "feature schema"),
        ({"name": 5}, "feature schema"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_feature_is_refused(changes: dict[str, Any], says: str) -> None:
    """Whatever a message says of a feature is checked, and the error says what is wrong."""
    row = {"name": "liked", "kind": "sequence", "length": 20, "vocabulary": 100, "table": "item"}
    with pytest.raises(MalformedMessageError, match=says):
        FeatureSchema.from_dict({"features": [{**row, **changes}]})


@pytest.mark.parametrize("values", [{}, {"features": None}, {"features": "abc"}, {"features": [1]}, {"features": []}])
def test_bad_schema_is_refused(values: dict[str, Any]) -> None:
    """What is not a list of at least one feature is no schema."""
    with pytest.raises(MalformedMessageError):
        FeatureSchema.from_dict(values)


def test_features_must_agree() -> None:
    """Names are distinct, a shared table has one size, and their number is bounded."""
    with pytest.raises(MalformedMessageError, match="distinct"):
        FeatureSchema((ITEM, ITEM))
    with pytest.raises(MalformedMessageError, match="disagree"):
        FeatureSchema((ITEM, Feature("liked", FeatureKind.SEQUENCE, 20, 101, "item")))
    with pytest.raises(MalformedMessageError, match=r"1\.\.64"):
        FeatureSchema(tuple(Feature(f"f{i}", FeatureKind.DENSE) for i in range(MAX_FEATURES + 1)))
