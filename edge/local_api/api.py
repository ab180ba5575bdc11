"""What the local API does: its paths, what they take, and what they answer. No sockets; see `edge/openapi.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import Any

from edge.errors import BadRequestError, DiskError, EdgeError, NoModelError, StoreError
from edge.feedback.events import parse_events
from edge.feedback.labelling import EventRules
from edge.forgetting import Forgotten, forget_user
from edge.local_api.http_wire import Answer, HttpError, Request
from edge.local_api.ranker import Ranker
from edge.local_api.turnstile import Turnstile
from edge.round.report import software_version
from edge.storage.disk import Fault
from edge.storage.store import Store
from protocol.errors import ProtocolError

_RANK_FIELDS = frozenset({"items", "features", "context", "top"})


class Api:
    """Answers requests; safe to use from several threads.

    Args:
        store: The device's.
        rules: How events become samples.
        ranker: Scores candidates.
        turnstile: Which training waits at while a request is answered.
        forgotten: Told when the user was forgotten.
    """

    def __init__(
        self,
        store: Store,
        rules: EventRules,
        ranker: Ranker,
        turnstile: Turnstile,
        forgotten: Callable[[Forgotten], None] = lambda _what: None,
    ) -> None:
        self._store = store
        self._rules = rules
        self._ranker = ranker
        self._turnstile = turnstile
        self._forgotten = forgotten
        self._routes: dict[tuple[str, str], Callable[[Request], Any]] = {
            ("POST", "/v1/rank"): self._rank,
            ("POST", "/v1/events"): self._events,
            ("POST", "/v1/forget"): self._forget,
            ("GET", "/v1/status"): self._status,
            ("GET", "/openapi.json"): lambda _request: description(),
        }

    def answer(self, request: Request) -> Answer:
        """The answer to one request; whatever is asked, it does not raise."""
        try:
            with self._turnstile.serving():
                return Answer(HTTPStatus.OK, self._route(request)(request))
        except HttpError as error:
            return refusal(error)
        except BadRequestError as error:
            return problem(HTTPStatus.BAD_REQUEST, "bad-request", str(error))
        except NoModelError as error:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "no-model", str(error))
        except StoreError as error:
            return _unkept(error)
        except (EdgeError, ProtocolError) as error:
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "device", str(error))

    def _route(self, request: Request) -> Callable[[Request], Any]:
        route = self._routes.get((request.method, request.path))
        if route is not None:
            return route
        if allowed := [method for method, path in self._routes if path == request.path]:
            detail = f"{request.path} takes {', '.join(allowed)}, not {request.method[:20]}"
            allow = {"Allow": ", ".join(allowed)}
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "method", detail, headers=allow)
        raise HttpError(HTTPStatus.NOT_FOUND, "path", f"there is no {request.path[:80]}: see /openapi.json")

    def _rank(self, request: Request) -> dict[str, Any]:
        asked = _object(request, _RANK_FIELDS, {"items"})
        columns, context, top = asked.get("features", {}), asked.get("context", {}), asked.get("top")
        if not isinstance(columns, dict) or not isinstance(context, dict):
            raise BadRequestError("features and context are objects, by the names of the model's features")
        if top is not None and (type(top) is not int or top < 1):
            raise BadRequestError("top is a whole number, 1 or more")
        found = self._ranker.rank(asked["items"], columns, context)
        return {**vars(found), "items": found.items[:top], "scores": found.scores[:top]}

    def _events(self, request: Request) -> dict[str, Any]:
        events = parse_events(_object(request, {"events"}, {"events"})["events"], int(self._store.time.unix_s))
        try:
            taken = self._store.events.add(events, self._ranker.schema, self._rules)
        except DiskError as error:
            self._store.disk.failed(error, events=len(events))
            raise
        self._store.disk.worked()
        if taken.samples is not None:
            self._ranker.watch(taken.samples)
        made = 0 if taken.samples is None else len(taken.samples)
        return {"taken": taken.events, "refused": taken.refused, "reason": taken.reason, "samples": made}

    def _forget(self, request: Request) -> dict[str, Any]:
        if _object(request, {"user"}, {"user"})["user"] is not True:
            raise BadRequestError('forgetting cannot be undone: say {"user": true}')
        found = forget_user(self._store)
        self._forgotten(found)
        return vars(found)

    def _status(self, _request: Request) -> dict[str, Any]:
        unfinished = self._store.rounds.unfinished()
        return {
            "software": software_version(),
            "model": self._ranker.version,
            "drift": self._ranker.drift(),
            "new_samples": self._store.samples.new,
            "waiting_events": self._store.events.waiting,
            "outbox_bytes": self._store.outbox.size_bytes,
            "disk": self._store.disk.look() or "ok",
            "events_refused": self._store.disk.events_refused,
            "round": None if unfinished is None else {"round_id": unfinished.round_id, "phase": unfinished.state},
        }


def _unkept(error: StoreError) -> Answer:
    if not isinstance(error, DiskError):
        return problem(HTTPStatus.INSUFFICIENT_STORAGE, "store", str(error))
    full = error.fault == Fault.FULL.value
    status = HTTPStatus.INSUFFICIENT_STORAGE if full else HTTPStatus.SERVICE_UNAVAILABLE
    return problem(status, f"disk-{error.fault}", str(error))


def problem(status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that says no."""
    return Answer(status, {"error": code, "detail": detail}, headers or {})


def refusal(error: HttpError) -> Answer:
    """What is answered to a request that cannot be read, or goes nowhere."""
    return problem(error.status, error.code, str(error), error.headers)


@cache
def description() -> Any:
    """The API in OpenAPI 3.1."""
    return json.loads(resources.files("edge").joinpath("openapi.json").read_text("utf-8"))


def _object(request: Request, known: set[str] | frozenset[str], needed: set[str]) -> dict[str, Any]:
    value = request.json()
    if not isinstance(value, dict) or not needed <= set(value) <= known:
        raise BadRequestError(f"an object with {', '.join(sorted(needed))} is expected, and at most {sorted(known)}")
    return value
