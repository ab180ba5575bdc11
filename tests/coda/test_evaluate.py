"""`coda evaluate`: a file it has never seen, by flags alone, to an answer in words."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema
import pytest

import evaluation
from coda.values import join_values
from tests.coda.running import coda, coda_here

_SEVERAL = frozenset({"--seeds", "--arms"})


def _shop_log(file: Path) -> None:
    """Clicks of users with opposite tastes: out of order, in milliseconds, with bad, repeated and lonely rows."""
    rng = random.Random(3)
    lines = []
    for user in range(60):
        liked = [sku for sku in range(60) if sku % 2 == user % 2]
        for n, sku in enumerate(rng.sample(liked, 20)):
            price = f"{sku * 1.37:.2f}"
            lines.append(
                f"{1_600_000_000_000 + user * 1000 + n * 60_000};user {user};sku-{sku};b{sku % 2};{price};{n % 5}"
            )
    rng.shuffle(lines)
    lines += [lines[0], "1600000000000;alone;sku-1;b1;1.37;0", "broken", "soon;user 1;sku-2;b0;2.74;0", ";;;;;"]
    file.write_text("when;who;sku;brand;price;place\n" + "\n".join(lines) + "\n")


@pytest.mark.slow
def test_a_file_never_seen_before_works_through_flags_alone(tmp_path: Path) -> None:
    """Counts are told, the answer is in words, and asking again tries nothing again."""
    _shop_log(tmp_path / "clicks.csv")
    command = ["evaluate", "--data", str(tmp_path / "clicks.csv"), "--user", "who", "--item", "sku", "--time", "when"]
    command += ["--features", "brand", "price=dense", "place", "--arms", "local", "--local-events", "5"]
    command += ["--devices", "3", "--workers", "2", "--model", "lr", "--out", str(tmp_path / "out")]
    done = coda(*command, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "left out 1 of 1,205 rows: another number of columns than the header has" in done.stderr
    assert "when is not a time (first at row 1,204)" in done.stderr
    assert "left out 1 repeated ratings" in done.stderr
    assert "times were read as milliseconds" in done.stderr
    assert "3 users whom the cloud has not seen with at most 5 local events" in done.stdout
    assert "CoDA changes mean user AUC by" in done.stdout
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    jsonschema.validate(found, json.loads((Path(evaluation.__file__).parent / "evaluation.schema.json").read_text()))
    assert found["data"]["features"] == ["brand", "price", "place"]
    assert found["data"]["reading"]["left_out"]["no user"] == 1
    assert [arm["arm"] for arm in found["groups"][0]["arms"]] == ["cloud", "local", "coda"]
    again = coda_here(*command, "--json", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == found


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--data", "nowhere.csv"], 1, "neither a dataset"),
        (["--data", "{file}"], 1, "There are a, b"),
        (["--data", "{file}", "--user", "a", "--item", "c"], 1, "no column 'c': there are a, b"),
        (["--data", "{file}", "--user", "a", "--item", "b", "--labels", "explicit"], 2, "every row is a positive"),
        (["--seeds", "one"], 2, "whole numbers"),
        (["--arms", "magic"], 1, "arms magic: choose of cloud"),
        (["--folds", "7"], 1, "choose of"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_a_line(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    """With what there is instead, and the exit code of its kind."""
    (tmp_path / "log.csv").write_text("a,b\n1,2\n3,4\n")
    done = coda_here("evaluate", "run", *(word.format(file=tmp_path / "log.csv") for word in arguments))
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_several_controls_may_be_named() -> None:
    """After one flag, as their help shows."""
    done = coda_here("evaluate", "controls", "--only", "positive", "magic")
    assert done.returncode == 2
    assert "--only magic: use any of positive" in done.stderr


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        (["--seeds", "1", "2", "--x", "y"], ["--seeds", "1,2", "--x", "y"]),
        (["--x", "1", "--arms", "a"], ["--x", "1", "--arms", "a"]),
        (["--seeds", "1,2", "3", "--arms", "all"], ["--seeds", "1,2,3", "--arms", "all"]),
        (["--seeds"], ["--seeds"]),
    ],
)
def test_values_of_one_option_are_joined(given: list[str], joined: list[str]) -> None:
    """Up to the next option, and of no other."""
    assert join_values(given, _SEVERAL) == joined
