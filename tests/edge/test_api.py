"""What the local API answers, over real sockets, with real models."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge.client import ApiError, Client
from edge.learning.runtime import open_model
from edge.local_api.api import description
from edge.local_api.ranker import Ranker
from protocol.rows import RowBlock
from tests.edge.api_device import RULES, ApiDevice, device, valid
from tests.edge.conftest import ModelFiles
from tests.edge.samples import ITEMS

__all__ = ["device"]
CANDIDATES = list(range(1, 40))


def test_candidates_are_ranked_as_the_model_scores_them(device: ApiDevice, model_files: ModelFiles) -> None:
    """The best first, by the user's own history, on both kinds of socket alike."""
    version = device.serve(model_files)
    genres = [[1 + item % 7] for item in CANDIDATES]
    with Client(str(device.socket)) as unix, Client(device.server.port or 0) as tcp:
        told = valid(unix.tell([{"kind": "click", "item": item} for item in (2, 4, 6)]), "Taken")
        assert told == {"taken": 3, "refused": 0, "reason": "", "samples": 3}
        found = valid(unix.rank(CANDIDATES, {"genres": genres}), "Ranking")
        assert tcp.rank(CANDIDATES, {"genres": genres}) == found
        asked = tcp.rank(CANDIDATES, {"genres": genres}, {"liked": [2, 4, 6]}, top=3)
    features = {
        "item": np.array(CANDIDATES, np.int32),
        "genres": np.array([[*genre, 0, 0] for genre in genres], np.int32),
        "liked": np.tile(np.array([0, 0, 2, 4, 6], np.int32), (len(CANDIDATES), 1)),
        "disliked": np.zeros((len(CANDIDATES), 5), np.int32),
    }
    logits = open_model(model_files.recommender).infer(features)
    order = np.argsort(-logits, kind="stable")
    assert found["items"] == [CANDIDATES[place] for place in order]
    assert found["scores"] == pytest.approx((1 / (1 + np.exp(-logits[order]))).tolist(), abs=1e-6)
    assert (found["model"], found["unknown"]) == (version, [])
    assert asked == {**found, "items": found["items"][:3], "scores": found["scores"][:3]}


def test_a_model_with_slots_ranks_what_it_has_rows_of(device: ApiDevice, slotted_files: ModelFiles) -> None:
    """Personal rows over h0's; a candidate without a row is named, and scored by what else is known of it."""
    assert slotted_files.rows is not None
    values, rows = slotted_files.rows.values, slotted_files.rows.description
    have = np.arange(30, dtype=np.int32)
    device.store.rows.put(RowBlock(rows.version, have, values[have]))
    device.serve(slotted_files, shift=0.5)
    with Client(str(device.socket)) as client:
        found = client.rank(CANDIDATES)
        few = client.rank([1, 2, 3])
    assert found["unknown"] == list(range(30, 40))
    scores = dict(zip(found["items"], found["scores"], strict=True))
    assert few["scores"] == pytest.approx([scores[item] for item in few["items"]], abs=1e-6)
    assert len({scores[item] for item in range(30, 40)}) == 1
    again = Ranker(device.store, RULES, None, 1)  # whose slots hold other ids
    again.reload()
    for item in (29, 1, 15):
        assert again.rank([item], {}, {}).scores == pytest.approx([scores[item]], abs=1e-6)


def test_a_swap_neither_drops_nor_mixes(device: ApiDevice, model_files: ModelFiles) -> None:
    """Every answer while models change is whole, and is that of the version it names."""
    versions = {device.serve(model_files, shift): shift for shift in (None, 0.3)}
    expected: dict[str, list[float]] = {}
    with Client(str(device.socket)) as client:
        for shift in (None, 0.3):
            name = device.serve(model_files, shift)
            versions[name] = shift
            expected[str(shift)] = client.rank(CANDIDATES)["scores"]
    stop, answers, errors = threading.Event(), [], []

    def ask() -> None:
        try:
            with Client(str(device.socket)) as client:
                answers.append(client.rank(CANDIDATES))  # however late it begins
                while not stop.is_set():
                    answers.append(client.rank(CANDIDATES))
        except Exception as error:
            errors.append(error)

    askers = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for asker in askers:
        asker.start()
    for number in range(12):
        shift = (None, 0.3)[number % 2]
        versions[device.serve(model_files, shift)] = shift
    stop.set()
    for asker in askers:
        asker.join()
    assert not errors
    assert len(answers) >= 3
    for answer in answers:
        assert answer["scores"] == expected[str(versions[answer["model"]])]


def test_a_record_of_another_version_keeps_no_model_from_being_served(
    device: ApiDevice, model_files: ModelFiles
) -> None:
    """What that version says more of a round is passed over."""
    version = device.serve(model_files)
    with device.store.transaction() as rows:
        rows.execute("UPDATE rounds SET record = ?", (json.dumps({"schema_version": 2}),))
    assert device.store.rounds.records() == []
    assert Ranker(device.store, RULES, None, 1).reload() == version


def test_without_a_model_events_are_kept_and_rankings_refused(device: ApiDevice, model_files: ModelFiles) -> None:
    """Before the first round."""
    with Client(str(device.socket)) as client:
        assert client.tell([{"kind": "click", "item": 2}])["taken"] == 1
        with pytest.raises(ApiError, match="first round") as refused:
            client.rank([1])
        assert (refused.value.status, refused.value.code) == (503, "no-model")
        status = valid(client.status(), "Status")
        assert (status["model"], status["waiting_events"]) == (None, 1)
        version = device.serve(model_files)
        assert valid(client.status(), "Status")["model"] == version


def test_a_whole_number_may_be_written_with_a_point(device: ApiDevice, model_files: ModelFiles) -> None:
    """As JSON Schema has it: 1.0 and 1e0 are integers, wherever one is asked for."""
    device.serve(model_files)
    event = {"kind": "dwell", "item": 2.0, "time_s": 1e9, "dwell_s": 60.0, "features": {"genres": [1.0]}}
    with Client(str(device.socket)) as client:
        assert valid(client.tell([event]), "Taken") == {"taken": 1, "refused": 0, "reason": "", "samples": 1}
        found = client._ask("POST", "/v1/rank", {"items": [1.0, 2, 3e0], "top": 2.0})
        assert found == client.rank([1, 2, 3], top=2)


def test_forgetting_needs_a_word_and_is_told(device: ApiDevice, model_files: ModelFiles) -> None:
    """The personal model is gone with the next request, and so is the history."""
    device.serve(model_files, 0.3)
    with Client(str(device.socket)) as client:
        client.tell([{"kind": "click", "item": 2}])
        with pytest.raises(ApiError, match="cannot be undone"):
            client._ask("POST", "/v1/forget", {"user": False})
        found = valid(client.forget(), "Forgotten")
        assert (found["samples"], found["personal_model"]) == (1, True)
        assert client.rank([1])["model"] == model_files.recommender_sha256[:12]
    assert [vars(one) for one in device.told] == [found]
    assert [letter.kind for letter in device.store.outbox.pending()] == ["forget"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "items"),
        ({"items": 3}, "a list of at most"),
        ({"items": [0] * 20_001}, "at most"),
        ({"items": [ITEMS]}, "ids are in"),
        ({"items": ["a"]}, "feature item"),
        ({"items": [1], "colour": 1}, "at most"),
        ({"items": [1], "features": {"colour": [1]}}, "colour"),
        ({"items": [1], "features": {"item": [1]}}, "item"),
        ({"items": [1], "features": {"genres": []}}, "0 values for 1 items"),
        ({"items": [1], "features": [1]}, "are objects"),
        ({"items": [1], "context": {"liked": [ITEMS]}}, "feature liked"),
        ({"items": [1], "top": 0}, "top"),
        ({"items": [1], "top": True}, "top"),
        ({"items": [True, 5]}, "feature item"),
        ({"items": [1], "features": {"genres": [[5, False]]}}, "feature genres"),
        ({"items": [1], "context": {"liked": [1, True]}}, "feature liked"),
        ({"items": [1.5]}, "feature item"),
        ({"items": [1e300]}, "feature item"),
    ],
)
def test_a_bad_ranking_request_is_told(device: ApiDevice, model_files: ModelFiles, asked: Any, says: str) -> None:
    """With a status of 400, and the connection goes on."""
    device.serve(model_files)
    with Client(str(device.socket)) as client:
        with pytest.raises(ApiError, match=says) as refused:
            client._ask("POST", "/v1/rank", asked)
        assert (refused.value.status, refused.value.code) == (400, "bad-request")
        assert client.rank([1, 2])["items"]
        assert client.rank([])["items"] == []


def test_kept_negatives_lower_the_scores(device: ApiDevice, model_files: ModelFiles) -> None:
    """Those of a personal model, which saw too few negatives; the order stays, and h0's stay."""
    device.serve(model_files, 0.3)
    before = device.ranker.rank(CANDIDATES, {}, {})
    device.ranker._rules = replace(RULES, keep_negatives=0.5)
    after = device.ranker.rank(CANDIDATES, {}, {})
    assert after.items == before.items
    odds = [score / (1 - score) for score in (before.scores[0], after.scores[0])]
    assert odds[1] == pytest.approx(odds[0] / 2, rel=1e-4)


def test_the_description_names_every_path(device: ApiDevice) -> None:
    """And nothing else."""
    described = {(method.upper(), path) for path, item in description()["paths"].items() for method in item}
    assert described == set(device.api._routes)
