"""The sweep: recipes by text, all judged in one world, on the validation slice only."""

from __future__ import annotations

import pytest

from evaluation.sweep import recipe_from, report, sweep
from evaluation.synthetic import generate_synthetic
from protocol.errors import MalformedMessageError
from protocol.recipe import Recipe


def test_changes_to_the_defaults_are_read() -> None:
    """Numbers take the field's own type; nothing changes nothing."""
    assert recipe_from("") == Recipe()
    assert recipe_from("steps=7,interpolation=1") == Recipe(steps=7, interpolation=1.0)


@pytest.mark.parametrize("changes", ["stepz=7", "interpolation=2", "keep_rule=firm", "steps=few", "steps"])
def test_a_recipe_that_is_none_is_refused(changes: str) -> None:
    """As everywhere, the field is named."""
    with pytest.raises(MalformedMessageError, match=changes.split("=", maxsplit=1)[0]):
        recipe_from(changes)


def test_recipes_are_compared_on_the_validation_slice() -> None:
    """Every recipe meets the same devices, and each has its line."""
    data = generate_synthetic(users=40, items=100, seed=3).interactions
    quick = "steps=5,classifier_steps=5,match_samples=50"
    recipes = {name: recipe_from(name) for name in (quick, f"{quick},interpolation=1.0")}
    found = sweep(data, recipes, workers=1)
    assert {result.setting.part for result in found.values()} == {"validation"}
    users = [[row.user for row in result.rows] for result in found.values()]
    assert users[0] == users[1]
    lines = report([found]).splitlines()
    assert [line.split()[0] for line in lines] == list(recipes)
    assert all("coda - cloud" in line for line in lines)
