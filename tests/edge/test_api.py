"""The local API over real sockets, with real models."""

from __future__ import annotations

import json
import select
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from edge.client import ApiError, Client
from edge.feedback.labelling import EventRules
from edge.forgetting import Forgotten
from edge.learning.recommender import Personal
from edge.learning.runtime import open_model
from edge.local_api.api import Api, description
from edge.local_api.http_wire import MAX_BODY_BYTES, MAX_HEAD_BYTES
from edge.local_api.ranker import Ranker
from edge.local_api.server import MAX_CONNECTIONS, Server
from edge.local_api.turnstile import Turnstile
from edge.storage.store import Store
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from protocol.rows import RowBlock
from tests.edge.conftest import ModelFiles
from tests.edge.samples import ITEMS, SCHEMA

RULES = EventRules(keep_days=36500)
CANDIDATES = list(range(1, 40))


class _Device:
    """A store, and the API over it on a Unix socket and on loopback."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "api.sock"
        self.store = Store(folder / "state")
        self.ranker = Ranker(self.store, RULES, None, 1)
        self.told: list[Forgotten] = []
        self.turnstile = Turnstile()
        self.api = Api(self.store, RULES, self.ranker, self.turnstile, self._forgotten)
        self.server = Server(self.api.answer, self.socket, 0)

    def _forgotten(self, what: Forgotten) -> None:
        self.told.append(what)
        self.ranker.reload()

    def serve(self, files: ModelFiles, shift: float | None = None) -> str:
        """Serve a model, or a personal one whose weights are all shifted; returns its version."""
        path = self.store.blobs.path(files.recommender_sha256)
        if not path.exists():  # it is mapped into memory
            shutil.copy(files.recommender, path)
        size = files.recommender.stat().st_size
        rows = None if files.rows is None else files.rows.description
        blob = BlobRef(files.recommender_sha256, size)
        stored = self.store.rounds.begin(Task(1, SCHEMA.to_dict(), Recipe().to_dict(), blob, blob, rows), "sync")
        personal = None
        if shift is not None:
            weights = open_model(files.recommender).get_weights()
            block = None
            if files.rows is not None:
                names = {column.weight for column in files.rows.description.columns}
                weights = {name: value for name, value in weights.items() if name not in names}
                ids = np.arange(1, 5, dtype=np.int32)
                block = RowBlock(files.rows.description.version, ids, files.rows.values[ids] + np.float32(shift))
            personal = Personal({n: v + np.float32(shift) for n, v in weights.items()}, block)
        self.store.rounds.serve(files.recommender_sha256, stored.round_id, personal)
        self.store.rounds.close(stored.round_id, "done")
        version = self.ranker.reload()
        assert version is not None
        return version


@pytest.fixture
def device(tmp_path: Path) -> Iterator[_Device]:
    """A device without a model."""
    one = _Device(tmp_path)
    with closing(one.store), one.server:
        yield one


def _valid(value: Any, name: str) -> Any:
    """The value, which is as the description says."""
    jsonschema.validate(value, {**description(), "$ref": f"#/components/schemas/{name}"})
    return value


def test_candidates_are_ranked_as_the_model_scores_them(device: _Device, model_files: ModelFiles) -> None:
    """The best first, by the user's own history, on both kinds of socket alike."""
    version = device.serve(model_files)
    genres = [[1 + item % 7] for item in CANDIDATES]
    with Client(str(device.socket)) as unix, Client(device.server.port or 0) as tcp:
        told = _valid(unix.tell([{"kind": "click", "item": item} for item in (2, 4, 6)]), "Taken")
        assert told == {"taken": 3, "refused": 0, "reason": "", "samples": 3}
        found = _valid(unix.rank(CANDIDATES, {"genres": genres}), "Ranking")
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


def test_a_model_with_slots_ranks_what_it_has_rows_of(device: _Device, slotted_files: ModelFiles) -> None:
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


def test_a_swap_neither_drops_nor_mixes(device: _Device, model_files: ModelFiles) -> None:
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


def test_a_record_of_another_version_keeps_no_model_from_being_served(device: _Device, model_files: ModelFiles) -> None:
    """What that version says more of a round is passed over."""
    version = device.serve(model_files)
    with device.store.transaction() as rows:
        rows.execute("UPDATE rounds SET record = ?", (json.dumps({"schema_version": 2}),))
    assert device.store.rounds.records() == []
    assert Ranker(device.store, RULES, None, 1).reload() == version


def test_without_a_model_events_are_kept_and_rankings_refused(device: _Device, model_files: ModelFiles) -> None:
    """Before the first round."""
    with Client(str(device.socket)) as client:
        assert client.tell([{"kind": "click", "item": 2}])["taken"] == 1
        with pytest.raises(ApiError, match="first round") as refused:
            client.rank([1])
        assert (refused.value.status, refused.value.code) == (503, "no-model")
        status = _valid(client.status(), "Status")
        assert (status["model"], status["waiting_events"]) == (None, 1)
        version = device.serve(model_files)
        assert _valid(client.status(), "Status")["model"] == version


def test_forgetting_needs_a_word_and_is_told(device: _Device, model_files: ModelFiles) -> None:
    """The personal model is gone with the next request, and so is the history."""
    device.serve(model_files, 0.3)
    with Client(str(device.socket)) as client:
        client.tell([{"kind": "click", "item": 2}])
        with pytest.raises(ApiError, match="cannot be undone"):
            client._ask("POST", "/v1/forget", {"user": False})
        found = _valid(client.forget(), "Forgotten")
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
    ],
)
def test_a_bad_ranking_request_is_told(device: _Device, model_files: ModelFiles, asked: Any, says: str) -> None:
    """With a status of 400, and the connection goes on."""
    device.serve(model_files)
    with Client(str(device.socket)) as client:
        with pytest.raises(ApiError, match=says) as refused:
            client._ask("POST", "/v1/rank", asked)
        assert (refused.value.status, refused.value.code) == (400, "bad-request")
        assert client.rank([1, 2])["items"]
        assert client.rank([])["items"] == []


def _raw(device: _Device, sent: bytes) -> tuple[int, dict[str, Any], bytes]:
    """Status, body and the rest of what is answered to bytes, after which the peer says no more."""
    with socket.create_connection(("127.0.0.1", device.server.port or 0), 10) as peer:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        got = b""
        while piece := peer.recv(65536):
            got += piece
    got = got.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    return int(head.split()[1]), json.loads(body[:length]), body[length:]


_POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404, "path"),
        (b"GET /v1/rank HTTP/1.1\r\n\r\n", 405, "method"),
        (b"hello\r\n\r\n", 400, "request-line"),
        (b"GET /v1/status HTTP/3\r\n\r\n", 400, "request-line"),
        (b"GET /v1/status HTTP/1.1\r\nbroken\r\n\r\n", 400, "header"),
        (b"GET /v1/status HTTP/1.1\r\nX: " + b"x" * 2 * MAX_HEAD_BYTES, 431, "head"),
        (b"GET /v1/status HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", 431, "head"),
        (b"GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "not-local"),
        (b"GET /v1/status HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n", 400, "header"),
        (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n", 403, "not-local"),
        (_POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413, "too-large"),
        (_POST + b"Content-Length: -1\r\n\r\n", 411, "length"),
        (_POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "header"),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\n", 411, "length"),
        (_POST + b"Content-Length: 9\r\n\r\n{}", 400, "cut-short"),
        (_POST + b"Content-Length: 2\r\n\r\n{]", 400, "not-json"),
        (_POST + b"Content-Length: 900002\r\n\r\n[" + b"{}," * 300_000 + b"]", 413, "too-large"),
        (_POST + b"Content-Length: 5\r\n\r\n[NaN]", 400, "not-json"),
        (_POST + b"Content-Length: 2000\r\n\r\n" + b"[" * 2000, 400, "not-json"),
        (_POST.replace(b"application/json", b"text/plain") + b"Content-Length: 2\r\n\r\n{}", 415, "media-type"),
        (_POST + b"Content-Length: 2\r\n\r\n[]", 400, "bad-request"),
    ],
)
def test_what_is_no_good_request_is_refused(device: _Device, sent: bytes, status: int, code: str) -> None:
    """By a status and a word; what a web page in a browser may send is not acted on."""
    got, body, _ = _raw(device, sent)
    assert (got, _valid(body, "Problem")["error"]) == (status, code)


def test_requests_may_follow_each_other_at_once(device: _Device) -> None:
    """Two requests in one piece, the second of which waits for 100 Continue, are answered in order."""
    event = json.dumps({"events": [{"kind": "click", "item": 3}]}).encode()
    second = _POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(event) + event
    status, body, rest = _raw(device, b"GET /v1/status HTTP/1.1\r\n\r\n" + second)
    assert (status, body["waiting_events"]) == (200, 0)
    assert b'"taken":1' in rest


def test_connections_are_bounded(device: _Device) -> None:
    """One too many is told so, and there is room again when another ends."""
    clients = [Client(str(device.socket)) for _ in range(MAX_CONNECTIONS)]
    for client in clients:
        client.status()
    with Client(str(device.socket)) as one_too_many, pytest.raises((ApiError, ConnectionError)):
        one_too_many.status()
    for client in clients:
        client.close()


def test_large_bodies_are_read_one_at_a_time(device: _Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that many apps at once do not fill the memory; small ones pass, and who waits too long is told."""
    monkeypatch.setattr("edge.local_api.server.IDLE_S", 2.0)
    large = _POST + b"Content-Length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", device.server.port or 0), 10) as first:
        first.sendall(large + b" " * 1000)
        deadline_s = time.monotonic() + 10
        while not device.server._large.locked() and time.monotonic() < deadline_s:
            select.select([first], [], [], 0.01)
        monkeypatch.setattr("edge.local_api.server.IDLE_S", 0.1)
        assert _raw(device, large)[:2] == (
            503, {"error": "busy", "detail": "other large bodies are being read"},
        )  # fmt: skip
        with Client(str(device.socket)) as client:
            assert client.status()["disk"] == "ok"
        first.sendall(b" " * 99_000)
        assert b"not-json" in first.recv(1000)
    assert _raw(device, large + b" " * 100_000)[0] == 400


def test_a_request_that_drips_in_does_not_keep_its_place(device: _Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often another byte comes, a request is whole in time or its connection ends; another's is answered."""
    monkeypatch.setattr("edge.local_api.server.IDLE_S", 0.3)
    with socket.create_connection(("127.0.0.1", device.server.port or 0), 10) as peer:
        peer.sendall(b"GET /v1/status HTTP/1.1\r\nX: ")
        ended = False
        for _ in range(1000):
            if ended := bool(select.select([peer], [], [], 0.02)[0]):
                break
            peer.sendall(b"x")
        assert ended
    with Client(str(device.socket)) as client:
        assert client.status()["disk"] == "ok"


def test_the_socket_is_for_owner_and_group_and_goes_with_the_server(tmp_path: Path) -> None:
    """One that a killed process left behind is replaced."""
    path = tmp_path / "api.sock"
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(path))
    with Server(lambda _request: (_ for _ in ()).throw(AssertionError), path, None):
        assert path.stat().st_mode & 0o777 == 0o660
    assert not path.exists()


def test_kept_negatives_lower_the_scores(device: _Device, model_files: ModelFiles) -> None:
    """Those of a personal model, which saw too few negatives; the order stays, and h0's stay."""
    device.serve(model_files, 0.3)
    before = device.ranker.rank(CANDIDATES, {}, {})
    device.ranker._rules = replace(RULES, keep_negatives=0.5)
    after = device.ranker.rank(CANDIDATES, {}, {})
    assert after.items == before.items
    odds = [score / (1 - score) for score in (before.scores[0], after.scores[0])]
    assert odds[1] == pytest.approx(odds[0] / 2, rel=1e-4)


def test_the_description_names_every_path(device: _Device) -> None:
    """And nothing else."""
    described = {(method.upper(), path) for path, item in description()["paths"].items() for method in item}
    assert described == set(device.api._routes)
