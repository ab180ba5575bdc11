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

from cloud_broker.database import Database
from protocol.errors import IntegrityError, MalformedMessageError
from protocol.messages import BlobRef, Collect, Message, Offer, Piece, Refusal, RefusalCode
from protocol.transfer import Bitmap, chunk_count

WINDOW_PIECES = 4
MAX_OFFERS = 8  # of one device at a time; more are refused by forgetting the oldest, which is then offered again
_REMEMBERED_S = 30 * 24 * 3600.0
_TABLES = """
CREATE TABLE IF NOT EXISTS offer (
    device TEXT NOT NULL, message_id TEXT NOT NULL, letter TEXT NOT NULL, sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, chunk_bytes INTEGER NOT NULL, offered_s REAL NOT NULL, done INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device, message_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piece (
    device TEXT NOT NULL, message_id TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (device, message_id, number)
);
"""


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

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the collection under ``directory``, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = Database(directory / "collecting.sqlite", _TABLES)
        self._clock = clock

    def done(self, device: str, message_id: str) -> bool:
        """Whether that letter was acted on."""
        query = "SELECT 1 FROM offer WHERE device = ? AND message_id = ? AND done"
        return bool(self._database.rows(query, device, message_id))

    def begin(self, device: str, message_id: str, offer: Offer) -> list[Message]:
        """Note an offer, and ask for the first pieces of it that are missing.

        A letter that is offered again with other chunks begins anew.
        """
        told = (device, message_id, offer.letter, offer.blob.sha256, offer.blob.size_bytes, offer.chunk_bytes)
        with self._database.transaction() as database:
            fields = "(device, message_id, letter, sha256, size_bytes, chunk_bytes)"
            known = f"SELECT 1 FROM offer WHERE {fields} = (?,?,?,?,?,?)"  # noqa: S608 (no value in it)
            if not database.execute(known, told).fetchone():
                database.execute("DELETE FROM piece WHERE device = ? AND message_id = ?", told[:2])
                database.execute("INSERT OR REPLACE INTO offer VALUES (?,?,?,?,?,?,?,0)", (*told, self._clock()))
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
            row = (device, opened.message_id, piece.index, piece.data)
            new = database.execute("INSERT OR IGNORE INTO piece VALUES (?,?,?,?)", row).rowcount == 1
        have = self._have(device, opened)
        if have.count == have.size:
            return self._whole(device, opened)
        missing = list(have.missing())[WINDOW_PIECES - 1 : WINDOW_PIECES]  # those before it are under way
        return ([Collect(piece.blob, tuple(missing), piece.chunk_bytes)] if missing and new else []), None

    def finish(self, device: str, message_id: str, *, accepted: bool) -> None:
        """Forget the pieces of a letter that was acted on, not that it was accepted; a refused one may come again."""
        with self._database.transaction() as database:
            mark = "UPDATE offer SET done = 1" if accepted else "DELETE FROM offer"
            database.execute(f"{mark} WHERE device = ? AND message_id = ?", (device, message_id))
            database.execute("DELETE FROM piece WHERE device = ? AND message_id = ?", (device, message_id))
            database.execute("DELETE FROM offer WHERE done AND offered_s < ?", [self._clock() - _REMEMBERED_S])

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _open(self, device: str, piece: Piece) -> _Open:
        query = (
            "SELECT message_id, letter, size_bytes FROM offer"
            " WHERE device = ? AND sha256 = ? AND chunk_bytes = ? AND NOT done LIMIT 1"
        )
        rows = self._database.rows(query, device, piece.blob, piece.chunk_bytes)
        if not rows:
            raise MalformedMessageError(f"piece of {piece.blob[:12]}, which is not offered: offer it first")
        message_id, letter, size_bytes = rows[0]
        return _Open(message_id, letter, BlobRef(piece.blob, size_bytes), piece.chunk_bytes)

    def _have(self, device: str, opened: _Open) -> Bitmap:
        have = Bitmap(chunk_count(opened.ref.size_bytes, opened.chunk_bytes))
        query = "SELECT number FROM piece WHERE device = ? AND message_id = ?"
        for (number,) in self._database.rows(query, device, opened.message_id):
            have.add(number)
        return have

    def _whole(self, device: str, opened: _Open) -> tuple[list[Message], Letter | None]:
        query = "SELECT data FROM piece WHERE device = ? AND message_id = ? ORDER BY number"
        payload = b"".join(data for (data,) in self._database.rows(query, device, opened.message_id))
        if hashlib.sha256(payload).hexdigest() == opened.ref.sha256:
            return [], Letter(opened.message_id, opened.letter, payload)
        with self._database.transaction() as database:
            for table in ("piece", "offer"):
                query = f"DELETE FROM {table} WHERE device = ? AND message_id = ?"  # noqa: S608
                database.execute(query, (device, opened.message_id))
        detail = "what came is not what was offered: it has another digest"
        return [Refusal(opened.message_id, RefusalCode.MALFORMED.value, detail)], None

    def _forget_oldest(self, device: str) -> None:
        rows = self._database.rows(
            "SELECT message_id FROM offer WHERE device = ? AND NOT done ORDER BY offered_s DESC LIMIT -1 OFFSET ?",
            device,
            MAX_OFFERS,
        )
        with self._database.transaction() as database:
            for (message_id,) in rows:
                database.execute("DELETE FROM piece WHERE device = ? AND message_id = ?", (device, message_id))
                database.execute("DELETE FROM offer WHERE device = ? AND message_id = ?", (device, message_id))


def _check(piece: Piece, opened: _Open) -> None:
    count = chunk_count(opened.ref.size_bytes, opened.chunk_bytes)
    expected = min(opened.chunk_bytes, opened.ref.size_bytes - piece.index * opened.chunk_bytes)
    if not 0 <= piece.index < count or len(piece.data) != expected:
        raise MalformedMessageError(f"piece {piece.index} of {count} of {piece.blob[:12]}: {len(piece.data)} bytes")
    if zlib.crc32(piece.data) != piece.crc32:
        raise IntegrityError(f"piece {piece.index} of {piece.blob[:12]}: damaged")
