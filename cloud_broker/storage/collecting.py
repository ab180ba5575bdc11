"""Letters that devices offer, such as many contributed samples, collected piece by piece and kept on disk till whole.

Every piece is answered by asking for the next, so nothing here waits or remembers who asked: another worker, or this
one after a kill, goes on from the disk. Where an answer is lost the device offers again.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import and_, bindparam, delete, select, update

from cloud_broker.storage.database import SharedDatabase, keep, replace
from cloud_broker.storage.place import Place
from cloud_broker.storage.tables import OFFER, PIECE
from protocol.chunks import Bitmap, chunk_count
from protocol.errors import IntegrityError, MalformedMessageError
from protocol.messages import BlobRef, Collect, Message, Offer, Piece, Refusal, RefusalCode

WINDOW_PIECES = 4
MAX_OFFERS = 8  # of one device at a time; more are refused by forgetting the oldest, which is then offered again
_REMEMBERED_S = 30 * 24 * 3600.0
_OF_LETTER = and_(OFFER.c.device == bindparam("device"), OFFER.c.message_id == bindparam("message_id"))
_PIECES = and_(PIECE.c.device == bindparam("device"), PIECE.c.message_id == bindparam("message_id"))
_DONE = select(OFFER.c.done).where(_OF_LETTER, OFFER.c.done)
_TOLD = select(OFFER.c.letter, OFFER.c.sha256, OFFER.c.size_bytes, OFFER.c.chunk_bytes).where(_OF_LETTER)
_OPEN = (
    select(OFFER.c.message_id, OFFER.c.letter, OFFER.c.size_bytes)
    .where(
        OFFER.c.device == bindparam("device"),
        OFFER.c.sha256 == bindparam("sha256"),
        OFFER.c.chunk_bytes == bindparam("chunk_bytes"),
        OFFER.c.done.is_(False),
    )
    .limit(1)
)
_OPENED = (
    select(OFFER.c.message_id)
    .where(OFFER.c.device == bindparam("device"), OFFER.c.done.is_(False))
    .order_by(OFFER.c.offered_s.desc())
)
_HAVE = select(PIECE.c.number).where(_PIECES)
_DATA = select(PIECE.c.data).where(_PIECES).order_by(PIECE.c.number)
_ADD_OFFER, _ADD_PIECE = replace(OFFER), keep(PIECE)
_FORGET_OFFER, _FORGET_PIECES = delete(OFFER).where(_OF_LETTER), delete(PIECE).where(_PIECES)
_ACCEPT = (
    update(OFFER)
    .where(OFFER.c.device == bindparam("of_device"), OFFER.c.message_id == bindparam("of_letter"))
    .values(done=True)
)
_UNFINISHED = and_(
    OFFER.c.device == bindparam("device"), OFFER.c.letter == bindparam("letter"), OFFER.c.done.is_(False)
)
_LOSE_PIECES = delete(PIECE).where(
    PIECE.c.device == bindparam("device"), PIECE.c.message_id.in_(select(OFFER.c.message_id).where(_UNFINISHED))
)
_LOSE_OFFERS = delete(OFFER).where(_UNFINISHED)
_FORGET_OLD = delete(OFFER).where(OFFER.c.done, OFFER.c.offered_s < bindparam("before_s"))


@dataclass(frozen=True)
class Letter:
    """A message that was collected: its id, its kind, and its encoded envelope."""

    message_id: str
    kind: str
    payload: bytes


@dataclass(frozen=True)
class _Open:
    message_id: str
    letter: str
    ref: BlobRef
    chunk_bytes: int


class Collecting:
    """What is offered and not whole; safe to use from several threads and by several workers."""

    def __init__(self, where: Place | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the collection, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = SharedDatabase(where)
        self._clock = clock

    def done(self, device: str, message_id: str) -> bool:
        """Whether that letter was acted on."""
        return bool(self._database.rows(_DONE, device=device, message_id=message_id))

    def begin(self, device: str, message_id: str, offer: Offer) -> list[Message]:
        """Note an offer, and ask for the first pieces of it that are missing.

        A letter that is offered again with other chunks begins anew.
        """
        which = {"device": device, "message_id": message_id}
        told = (offer.letter, offer.blob.sha256, offer.blob.size_bytes, offer.chunk_bytes)
        if self._database.rows(_TOLD, **which) != [told]:
            letter = dict(zip(("letter", "sha256", "size_bytes", "chunk_bytes"), told, strict=True))
            with self._database.transaction() as database:
                database.execute(_FORGET_PIECES, which)
                database.execute(_ADD_OFFER, {**which, **letter, "offered_s": self._clock(), "done": False})
        self._forget_oldest(device)
        opened = _Open(message_id, offer.letter, offer.blob, offer.chunk_bytes)
        missing = list(self._have(device, opened).missing())[:WINDOW_PIECES]
        return [Collect(offer.blob.sha256, tuple(missing), offer.chunk_bytes)] if missing else []

    def take(self, device: str, piece: Piece) -> tuple[list[Message], Letter | None]:
        """Keep a piece.

        Returns:
            What to ask for next, and the letter, once it is whole.

        Raises:
            IntegrityError: If the piece is damaged.
            MalformedMessageError: If it is of nothing that was offered.
        """
        opened = self._open(device, piece)
        _check(piece, opened)
        with self._database.transaction() as database:
            row = {"device": device, "message_id": opened.message_id, "number": piece.index, "data": piece.data}
            new = database.execute(_ADD_PIECE, row).rowcount == 1
        have = self._have(device, opened)
        if have.count == have.size:
            return self._whole(device, opened)
        missing = list(have.missing())[WINDOW_PIECES - 1 : WINDOW_PIECES]  # those before it are under way
        return ([Collect(piece.blob, tuple(missing), piece.chunk_bytes)] if missing and new else []), None

    def finish(self, device: str, message_id: str, *, accepted: bool) -> None:
        """Forget the pieces of a letter that was acted on, not that it was accepted; a refused one may come again."""
        which = {"device": device, "message_id": message_id}
        with self._database.transaction() as database:
            if accepted:
                database.execute(_ACCEPT, {"of_device": device, "of_letter": message_id})
            else:
                database.execute(_FORGET_OFFER, which)
            database.execute(_FORGET_PIECES, which)
            database.execute(_FORGET_OLD, {"before_s": self._clock() - _REMEMBERED_S})

    def lose(self, device: str, letter: str) -> None:
        """Lose what came of a device's letters of a kind that are not whole; nothing of them is left in the file.

        Raises:
            StorageError, UnavailableError: If the database fails, or is away.
        """
        with self._database.transaction() as database:
            database.execute(_LOSE_PIECES, {"device": device, "letter": letter})
            database.execute(_LOSE_OFFERS, {"device": device, "letter": letter})
        self._database.drop_log()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _open(self, device: str, piece: Piece) -> _Open:
        rows = self._database.rows(_OPEN, device=device, sha256=piece.blob, chunk_bytes=piece.chunk_bytes)
        if not rows:
            raise MalformedMessageError(f"piece of {piece.blob[:12]}, which is not offered: offer it first")
        message_id, letter, size_bytes = rows[0]
        return _Open(message_id, letter, BlobRef(piece.blob, size_bytes), piece.chunk_bytes)

    def _have(self, device: str, opened: _Open) -> Bitmap:
        have = Bitmap(chunk_count(opened.ref.size_bytes, opened.chunk_bytes))
        for (number,) in self._database.rows(_HAVE, device=device, message_id=opened.message_id):
            have.add(number)
        return have

    def _whole(self, device: str, opened: _Open) -> tuple[list[Message], Letter | None]:
        which = {"device": device, "message_id": opened.message_id}
        payload = b"".join(data for (data,) in self._database.rows(_DATA, **which))
        if hashlib.sha256(payload).hexdigest() == opened.ref.sha256:
            return [], Letter(opened.message_id, opened.letter, payload)
        with self._database.transaction() as database:
            database.execute(_FORGET_PIECES, which)
            database.execute(_FORGET_OFFER, which)
        detail = "what came is not what was offered: it has another digest"
        return [Refusal(opened.message_id, RefusalCode.MALFORMED.value, detail)], None

    def _forget_oldest(self, device: str) -> None:
        over = self._database.rows(_OPENED, device=device)[MAX_OFFERS:]
        if not over:
            return
        with self._database.transaction() as database:
            for (message_id,) in over:
                which = {"device": device, "message_id": message_id}
                database.execute(_FORGET_PIECES, which)
                database.execute(_FORGET_OFFER, which)


def _check(piece: Piece, opened: _Open) -> None:
    count = chunk_count(opened.ref.size_bytes, opened.chunk_bytes)
    expected = min(opened.chunk_bytes, opened.ref.size_bytes - piece.index * opened.chunk_bytes)
    if not 0 <= piece.index < count or len(piece.data) != expected:
        raise MalformedMessageError(f"piece {piece.index} of {count} of {piece.blob[:12]}: {len(piece.data)} bytes")
    if zlib.crc32(piece.data) != piece.crc32:
        raise IntegrityError(f"piece {piece.index} of {piece.blob[:12]}: damaged")
