"""What devices offer, collected piece by piece: whatever is lost, repeated or killed, it becomes whole, once."""

from __future__ import annotations

import hashlib
import zlib
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cloud_broker.storage.collecting import MAX_OFFERS, WINDOW_PIECES, Collecting
from cloud_broker.storage.logs import Logs
from cloud_broker.storage.place import Place
from protocol.chunks import blob_ref, pieces_of
from protocol.errors import IntegrityError, MalformedMessageError, OversizeError
from protocol.messages import BlobRef, Collect, Log, Message, Offer, Piece, Refusal
from protocol.topics import CHUNK_SIZES

CHUNK = CHUNK_SIZES[0]
LETTER = bytes(range(256)) * 80 + b"tail"  # six pieces
OFFER = Offer("contribution", blob_ref(LETTER), CHUNK)


def _pieces(collects: list[Message], letter: bytes = LETTER) -> list[Piece]:
    return [piece for one in collects if isinstance(one, Collect) for piece in pieces_of(letter, one)]


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_every_piece_is_asked_for_once(place: Place, order: tuple[int, ...]) -> None:
    """In whatever order the first pieces come, a perfect link carries each piece once."""
    collecting = Collecting(place)
    under_way = _pieces(collecting.begin("dev", "m1", OFFER))
    assert len(under_way) == WINDOW_PIECES
    under_way = [under_way[index] for index in order]
    taken, letter = [], None
    while letter is None:
        piece = under_way.pop(0)
        taken.append(piece.index)
        asked, letter = collecting.take("dev", piece)
        under_way += _pieces(asked)
    assert sorted(taken) == list(range(6))
    assert (letter.message_id, letter.kind, letter.payload) == ("m1", "contribution", LETTER)
    collecting.finish("dev", "m1", accepted=True)
    assert collecting.done("dev", "m1")


class Collection(RuleBasedStateMachine):
    """A device that offers again, pieces that are lost and repeated, and workers that are killed."""

    @initialize(folder=st.uuids())
    def start(self, folder: object) -> None:
        """One letter is offered."""
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.collecting = Collecting(Path(self.folder.name))
        self.under_way: list[Piece] = []
        self.delivered = 0

    @rule()
    def offer(self) -> None:
        """The device does so until the letter is accepted."""
        if not self.collecting.done("dev", "m1"):
            self.under_way += _pieces(self.collecting.begin("dev", "m1", OFFER))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), repeat=st.booleans())
    def take(self, data: st.DataObject, repeat: bool) -> None:
        """Any piece may come next, and again, also after the letter was acted on."""
        at = data.draw(st.integers(0, len(self.under_way) - 1))
        piece = self.under_way[at] if repeat else self.under_way.pop(at)
        if self.collecting.done("dev", "m1"):
            with pytest.raises(MalformedMessageError, match="not offered"):
                self.collecting.take("dev", piece)
            return
        asked, letter = self.collecting.take("dev", piece)
        self.under_way += _pieces(asked)
        if letter is not None:
            assert letter.payload == LETTER
            self.collecting.finish("dev", "m1", accepted=True)
            self.delivered += 1

    @precondition(lambda self: self.under_way)
    @rule()
    def lose(self) -> None:
        """A piece, or the asking for it, is gone."""
        self.under_way.pop(0)

    @rule()
    def restart(self) -> None:
        """Another worker goes on from the same disk."""
        self.collecting.close()
        self.collecting = Collecting(Path(self.folder.name))

    def teardown(self) -> None:
        """Offered once more over a link that works, it becomes whole; it was acted on once."""
        if not hasattr(self, "collecting"):
            return
        self.under_way.clear()
        self.offer()
        while self.under_way:
            piece = self.under_way.pop(0)
            asked, letter = self.collecting.take("dev", piece)
            self.under_way += _pieces(asked)
            if letter is not None:
                self.collecting.finish("dev", "m1", accepted=True)
                self.delivered += 1
                break
        assert self.delivered == 1
        self.collecting.close()
        self.folder.cleanup()


TestCollection = Collection.TestCase
TestCollection.settings = settings(deadline=None, derandomize=True, max_examples=25, stateful_step_count=15)


def test_what_was_not_offered_or_is_damaged_is_refused(place: Place) -> None:
    """Neither takes room on the disk."""
    collecting = Collecting(place)
    [first, *_] = _pieces(collecting.begin("dev", "m1", OFFER))
    for bad, error in (
        (Piece(first.blob, first.index, first.crc32 ^ 1, first.data, CHUNK), IntegrityError),
        (Piece(first.blob, 99, first.crc32, first.data, CHUNK), MalformedMessageError),
        (Piece(first.blob, first.index, first.crc32, first.data[:-1], CHUNK), MalformedMessageError),
        (Piece("0" * 64, first.index, first.crc32, first.data, CHUNK), MalformedMessageError),
    ):
        with pytest.raises(error):
            collecting.take("dev", bad)
    with pytest.raises(MalformedMessageError, match="not offered"):
        collecting.take("another", first)


def test_a_letter_that_is_not_what_was_offered_is_refused(place: Place) -> None:
    """The digest over the whole decides; nothing of it stays."""
    collecting = Collecting(place)
    lie = Offer("contribution", BlobRef(hashlib.sha256(b"other").hexdigest(), 5), CHUNK)
    collecting.begin("dev", "m1", lie)
    answers, letter = collecting.take("dev", Piece(lie.blob.sha256, 0, zlib.crc32(b"wrong"), b"wrong", CHUNK))
    assert letter is None
    assert [type(answer) for answer in answers] == [Refusal]
    assert not collecting.done("dev", "m1")


def test_offers_of_one_device_are_bounded(place: Place) -> None:
    """The oldest gives way, and can be offered again."""
    now_s = iter(range(1000))
    collecting = Collecting(place, clock=lambda: float(next(now_s)))
    blobs = [bytes([number]) * 10 for number in range(MAX_OFFERS + 1)]
    for number, blob in enumerate(blobs):
        collecting.begin("dev", f"m{number}", Offer("log", blob_ref(blob), CHUNK))
    last = blob_ref(blobs[0]).sha256
    with pytest.raises(MalformedMessageError, match="not offered"):
        collecting.take("dev", Piece(last, 0, zlib.crc32(blobs[0]), blobs[0], CHUNK))


def test_a_log_is_kept_once_and_only_if_asked_for(place: Place) -> None:
    """Another device's, an unasked one, garbage, and one that unpacks to gigabytes are refused."""
    logs = Logs(place)
    request_id = logs.ask("dev")
    [(device, request)] = logs.take_unsent()
    assert (device, request.request_id) == ("dev", request_id)
    assert logs.take_unsent() == []
    good = Log(request_id, zlib.compress(b'{"event":"idle"}\n'))
    for device, log, error in (
        ("other", good, MalformedMessageError),
        ("dev", Log("0" * 32, good.data), MalformedMessageError),
        ("dev", Log(request_id, b"junk"), MalformedMessageError),
        ("dev", Log(request_id, zlib.compress(bytes(64 << 20))), OversizeError),
    ):
        with pytest.raises(error):
            logs.keep(device, log)
    assert not logs.answered(request_id)
    for _ in range(2):
        logs.keep("dev", good)
    assert logs.answered(request_id)
    assert logs.path("dev", request_id).read_bytes() == b'{"event":"idle"}\n'


def test_what_a_device_withdraws_is_lost(place: Place) -> None:
    """Letters of that kind that are not whole, their pieces with them; others, and what was accepted, stay."""
    collecting = Collecting(place)
    report = Offer("report", blob_ref(LETTER[:-1]), CHUNK)
    for message_id, offer, device in (("m1", OFFER, "dev"), ("m2", report, "dev"), ("m1", OFFER, "other")):
        collecting.begin(device, message_id, offer)
    (first,) = pieces_of(LETTER, Collect(OFFER.blob.sha256, (0,), CHUNK))
    for device in ("dev", "other"):
        collecting.take(device, first)
    collecting.finish("dev", "m0", accepted=True)
    collecting.lose("dev", "contribution")
    with pytest.raises(MalformedMessageError, match="not offered"):
        collecting.take("dev", first)
    assert [one.chunks for one in collecting.begin("dev", "m2", report) if isinstance(one, Collect)] == [(0, 1, 2, 3)]
    assert [one.chunks for one in collecting.begin("other", "m1", OFFER) if isinstance(one, Collect)] == [(1, 2, 3, 4)]


@pytest.mark.parametrize("how", ["whole", "withdrawn"])
def test_no_byte_of_a_letter_stays_in_the_files(tmp_path: Path, how: str) -> None:
    """Neither in free pages nor in SQLite's log, while the database is open."""
    collecting = Collecting(tmp_path)
    letter = b"".join(b"sample %09d of ann. " % number for number in range(1000))
    offer = Offer("contribution", blob_ref(letter), CHUNK)
    under_way = _pieces(collecting.begin("dev", "m1", offer), letter)
    for piece in under_way if how == "withdrawn" else []:
        collecting.take("dev", piece)
    while how == "whole" and under_way:
        asked, _whole = collecting.take("dev", under_way.pop())
        under_way += _pieces(asked, letter)
    assert _files_with(tmp_path, b"of ann.")
    if how == "whole":
        collecting.finish("dev", "m1", accepted=True)
    collecting.lose("dev", "contribution")
    assert not _files_with(tmp_path, b"of ann.")


def _files_with(folder: Path, found: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and found in path.read_bytes()]
