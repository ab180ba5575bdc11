"""What the cloud does about each message of a device: bytes in, answers out; no network.

A message's effect is on disk when its handler returns. What comes twice has its effect once and is answered alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from cloud_broker.errors import UnavailableError, UnknownBlobError
from cloud_broker.matching.versions import Versions
from cloud_broker.models.registry import Registry
from cloud_broker.observing.structured_logs import about
from cloud_broker.storage.ledger import Ledger
from cloud_broker.tasks.book import TaskBook
from cloud_broker.workers.accounts import Accounts
from cloud_broker.workers.answer_store import AnswerStore
from cloud_broker.workers.answering import Answering
from cloud_broker.workers.answers import (
    UNKNOWN_ID,
    Outgoing,
    address_of,
    check_id,
    claimed_id,
    code_of,
    outgoing,
    shared_outgoing,
)
from cloud_broker.workers.forgetting import forget_contributor
from cloud_broker.workers.sharing import Sharing, chunk_indices
from protocol import envelope
from protocol.batch_codec import decode_batch
from protocol.errors import MalformedMessageError
from protocol.messages import (
    Accepted,
    Busy,
    Contribution,
    Forget,
    Hello,
    Locate,
    Log,
    Message,
    Offer,
    Piece,
    Presence,
    Pull,
    Query,
    Refusal,
    RefusalCode,
    Report,
    RowsRequest,
    Updated,
)  # fmt: skip
from protocol.purposes import MODEL, SAMPLES, SOFTWARE

_OFFERED = frozenset({Contribution.kind, Report.kind, Log.kind})
_AWAY_S = 2.0  # what is away is asked for again after so long

logger = logging.getLogger(__name__)

OnEvent = Callable[[dict[str, Any]], None]


class Handlers:
    """Acts on messages; safe to use from several threads.

    Attributes:
        sharing: Which blobs lie at the broker.
        accounts: What bytes are for.
    """

    def __init__(
        self,
        registry: Registry,
        versions: Versions,
        tasks: TaskBook,
        ledger: Ledger,
        on_event: OnEvent | None = None,
        *,
        answers: AnswerStore,
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        """Put the parts together.

        Args:
            registry: Blobs that devices pull.
            versions: The pool as each model sees it, and who matches what in it.
            tasks: Tasks.
            ledger: Devices, reports.
            on_event: Told ``hello``, ``matched``, ``rows``, ``contributed``, ``forgotten``, ``reported``, ``refused``,
                ``updated``, ``rollout-halted``.
            answers: Keeps what a device is to pull.
            hurried: Whether many wait: then matched samples are packed in less time and more bytes.
        """
        self._registry = registry
        self._versions = versions
        self._tasks = tasks
        self._ledger = ledger
        self.sharing = Sharing(registry.blobs)
        self.accounts = Accounts(ledger.data_use)
        self._answers = answers
        self._tell = on_event or (lambda _event: None)
        self._answering = Answering(versions, answers, self._tell, hurried=hurried)
        self._handlers: dict[type[Message], Callable[[str, Any, str], Sequence[Message | Outgoing]]] = {
            Presence: self._on_presence,
            Hello: self._on_hello,
            Query: self._on_query,
            RowsRequest: self._on_rows,
            Locate: self._on_locate,
            Pull: self._on_pull,
            Contribution: self._on_contribution,
            Forget: self._on_forget,
            Offer: self._on_offer,
            Piece: self._on_piece,
            Log: self._on_log,
            Report: self._on_report,
            Updated: self._on_updated,
        }

    def respond(self, topic: str, payload: bytes) -> list[Outgoing]:
        """Act on what arrived and say what to answer; whatever arrives, it does not raise."""
        address = address_of(topic)
        if address is None:
            logger.warning("ignored a message on %r: no device speaks there", topic)
            return []
        return self._answer(address.device, address.kind, payload)

    def _answer(self, device: str, kind: str, payload: bytes) -> list[Outgoing]:
        with about(device=device, kind=kind):
            message_id, answers = self._act(device, kind, payload)
        return [outgoing(device, answer, message_id, number) for number, answer in enumerate(answers)]

    def _act(self, device: str, kind: str, payload: bytes) -> tuple[str, Sequence[Message | Outgoing]]:
        """The message's id, or what it claims for one, and what to answer."""
        message_id = UNKNOWN_ID
        try:
            received = envelope.decode("up", kind, payload)
            message_id = received.message_id
            check_id(message_id, "message id")
            with about(message_id=message_id, **_round_of(received.message)):
                return message_id, self._handlers[type(received.message)](device, received.message, message_id)
        except UnavailableError as error:
            logger.warning("put off %s of %s: %s", kind, device, error)
            return message_id, [Busy(message_id, _AWAY_S)]
        except Exception as error:
            if message_id == UNKNOWN_ID:
                message_id = claimed_id(payload)
            return message_id, [self._refuse(device, kind, message_id, error)]

    def _refuse(self, device: str, kind: str, message_id: str, error: Exception) -> Refusal:
        code = code_of(error)
        # Only the contract's own errors and ours are written for a peer's eyes; others may hold paths.
        internal = code is RefusalCode.INTERNAL
        detail = "the cloud failed to act on it; try again later" if internal else str(error)[:500]
        logger.log(
            logging.ERROR if internal else logging.WARNING,
            "refused %s of %s (%s): %s", kind, device, message_id, error,
            exc_info=error if internal else None,
        )  # fmt: skip
        self._tell({"event": "refused", "device": device, "kind": kind, "code": code.value})
        return Refusal(message_id, code.value, detail)

    def _on_presence(self, device: str, presence: Presence, _message_id: str) -> list[Message]:
        self._ledger.note_presence(device, online=presence.online)
        return []

    def _on_hello(self, device: str, hello: Hello, _message_id: str) -> list[Message]:
        self._ledger.note_hello(device, hello)
        self._tell({"event": "hello", "device": device, "board": hello.board, "runtime": hello.runtime})
        answers = (self._tasks.assign(device, hello.board), self._ledger.rollouts.for_device(device, hello.board))
        return [answer for answer in answers if answer is not None]

    def _on_query(self, device: str, query: Query, _message_id: str) -> list[Message]:
        check_id(query.query_id, "query_id")
        return [self._answering.match(query, device)]

    def _on_rows(self, device: str, request: RowsRequest, _message_id: str) -> list[Message]:
        check_id(request.request_id, "request_id")
        return [self._answering.rows(request, device)]

    def _on_locate(self, device: str, locate: Locate, _message_id: str) -> list[Message | Outgoing]:
        if not self._registry.blobs.published(locate.blob):
            raise UnknownBlobError(f"no published blob {locate.blob[:12]} here: sync the task")
        self.accounts.transfer(device, MODEL)
        located, new = self.sharing.locate(self._registry.blobs.ref(locate.blob), locate.bases, zstd=locate.zstd)
        for ref in new:
            self._tell({"event": "shared", "blob": ref.sha256, "size_bytes": ref.size_bytes})
        chunks = (self._registry.blobs.chunk(ref.sha256, index) for ref in new for index in chunk_indices(ref))
        return [located, *map(shared_outgoing, chunks)]  # it may read the first while the last are on their way

    def _on_pull(self, device: str, pull: Pull, _message_id: str) -> list[Message]:
        if self._answers.holds(pull.blob, device):
            self.accounts.transfer(device, MODEL if self._answering.made_of_rows(pull.blob) else SAMPLES)
            return list(self._answers.chunks(pull.blob, device, pull.chunks, pull.chunk_bytes))
        self._registry.blobs.ref(pull.blob)
        self.sharing.missed(pull.blob)
        self.accounts.transfer(device, SOFTWARE if self._ledger.rollouts.is_part(pull.blob) else MODEL)
        return [self._registry.blobs.chunk(pull.blob, index, pull.chunk_bytes) for index in pull.chunks]

    def _on_contribution(self, device: str, contribution: Contribution, message_id: str) -> list[Message]:
        pool = self._versions.pool
        batch = decode_batch(contribution.samples, pool.schema)
        added = pool.contribute(device, batch, message_id, agreement=contribution.agreement is True)
        if added:
            self._versions.refresh()
        self._tell({"event": "contributed", "device": device, "samples": added})
        return [Accepted(message_id)]

    def _on_forget(self, device: str, _forget: Forget, message_id: str) -> list[Message]:
        collecting = self._ledger.collecting
        deleted = forget_contributor(self._versions.pool, self._answers, collecting, device, message_id)
        self._tell({"event": "forgotten", "device": device, "samples": deleted})
        return [Accepted(message_id)]

    def _on_report(self, device: str, report: Report, message_id: str) -> list[Message]:
        check_id(report.round_id, "round_id")
        if self._ledger.add_report(device, report, message_id):
            self._tell({"event": "reported", "device": device, "round_id": report.round_id})
        self._tasks.standings.note(device, report)
        return [Accepted(message_id)]

    def _on_updated(self, device: str, updated: Updated, message_id: str) -> list[Message]:
        halted = self._ledger.rollouts.note(device, updated)
        said = {"target": updated.target, "outcome": updated.outcome, "reason": updated.reason}
        self._tell({"event": "updated", "device": device, **said})
        if halted is not None:
            self._tell({"event": "rollout-halted", "target": updated.target, "reason": halted})
        return [Accepted(message_id)]

    def _on_offer(self, device: str, offer: Offer, message_id: str) -> list[Message]:
        if offer.letter not in _OFFERED:
            raise MalformedMessageError(f"offer: {offer.letter[:40]!r} is not among {', '.join(sorted(_OFFERED))}")
        if self._ledger.collecting.done(device, message_id):
            return [Accepted(message_id)]
        return self._ledger.collecting.begin(device, message_id, offer)

    def _on_piece(self, device: str, piece: Piece, _message_id: str) -> Sequence[Message | Outgoing]:
        answers, letter = self._ledger.collecting.take(device, piece)
        if letter is None:
            return answers
        outgoing = self._answer(device, letter.kind, letter.payload)
        refused = any(isinstance(one.message, Refusal) for one in outgoing)
        self._ledger.collecting.finish(device, letter.message_id, accepted=not refused)
        return outgoing

    def _on_log(self, device: str, log: Log, message_id: str) -> list[Message]:
        self._ledger.logs.keep(device, log)
        self._tell({"event": "log", "device": device, "request_id": log.request_id, "size_bytes": len(log.data)})
        return [Accepted(message_id)]


def _round_of(message: Message) -> dict[str, str]:
    """What tells the round that a message belongs to, if it says so."""
    names = ("round_id", "query_id", "request_id")
    return {name: value[:64] for name in names if isinstance(value := getattr(message, name, None), str)}
