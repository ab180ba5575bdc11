from __future__ import annotations

import json
import math
from typing import Any

import pytest

from protocol.errors import MalformedMessageError
from protocol.recipe import Recipe


def test_plain_values_round_trip() -> None:
    """A recipe survives a file or a message unchanged."""
    recipe = Recipe(steps=7, keep_rule="hard", local_share=0.5)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_what_came_later_is_said_only_where_it_says_something() -> None:
    """A device of before reads a recipe that asks for nothing that it does not know."""
    assert not {"opinions", "fleet_gains"} & set(Recipe().to_dict())
    assert Recipe.from_dict(Recipe(opinions=20).to_dict()) == Recipe(opinions=20)


def test_absent_fields_take_their_defaults() -> None:
    """An operator states only what differs, and a whole number where a real one is meant."""
    recipe = Recipe.from_dict({"steps": 7, "proximal": 1})
    assert recipe == Recipe(steps=7, proximal=1.0)
    assert isinstance(recipe.proximal, float)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"stepz": 1}, "stepz"),
        ({"steps": "1"}, "steps must be int"),
        ({"steps": 1.0}, "steps must be int"),
        ({"steps": True}, "steps must be int"),
        ({"learning_rate": "fast"}, "learning_rate must be float"),
        ({"learning_rate": None}, "learning_rate must be float"),
        ({"keep_rule": 1}, "keep_rule must be str"),
        ({"keep_rule": "firm"}, "soft or hard"),
        ({"classifier_folds": 1}, "at least 2"),
        *(({name: value}, name) for name in ("holdout_share", "local_share") for value in (0.0, 1.0, math.nan)),
        *(({"interpolation": value}, "interpolation") for value in (0.0, 1.1)),
        ({"gate_standard_errors": -1.0}, "gate_standard_errors"),
        *(({name: math.inf}, "finite") for name in ("learning_rate", "proximal", "gate_min_gain", "fleet_min_gain")),
        *(({name: 0}, name) for name in ("min_local_samples", "match_samples", "match_bytes", "steps")),
        ({"profile_centroids": 0}, "profile_centroids"),
        *(({name: 1 << 63}, f"{name} must be at most") for name in ("steps", "match_bytes", "learning_rate")),
        ({"learning_rate": 10**400}, "learning_rate must be at most"),
        *(({"opinions": value}, "opinions must lie in 0..256") for value in (-1, 257)),
    ],
)
def test_bad_recipe_is_refused(values: dict[str, Any], says: str) -> None:
    """A field that is unknown, mistyped or out of bounds is named."""
    with pytest.raises(MalformedMessageError, match=says):
        Recipe.from_dict(values)
