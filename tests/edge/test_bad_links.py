"""The device's link and transfers over a real Mosquitto and links that are cut, half open, slow and lossy."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.chaos import ChaosProxy, Weather
from cloud_broker.storage.blobs import BlobStore
from cloud_broker.workers.answers import Outgoing, shared_outgoing
from cloud_broker.workers.gateway import Gateway
from cloud_broker.workers.sharing import Sharing, chunk_indices
from edge.config import EdgeConfig
from edge.storage.store import Store
from edge.tunnel.answers import Incoming
from edge.tunnel.fetch import fetch_blob, fetch_published
from edge.tunnel.link import Link
from edge.tunnel.sent import Fate
from edge.tunnel.session import Session
from protocol import envelope, topics
from protocol.chunks import chunk_count
from protocol.columns import zstd_available
from protocol.envelope import encode
from protocol.messages import BlobRef, Chunk, Hello, Locate, Message, Pull
from protocol.topics import CHUNK_BYTES
from tests.broker_fixtures import FLEET, FleetBroker
from tests.edge.test_link import WAIT_S, config_for

pytestmark = pytest.mark.broker

BLOB = random.Random(1).randbytes(40 * CHUNK_BYTES + 100)
HELLO = Hello("1", "runtime", "board", ())


@contextmanager
def cloud_of(fleet: FleetBroker, folder: Path, asked: list[tuple[str, int]]) -> Iterator[BlobRef]:
    """A worker that serves a blob, and any that were put there before; what was pulled from it is noted."""
    blobs = BlobStore(folder)
    ref, sharing = blobs.put(BLOB), Sharing(blobs)

    def respond(topic: str, payload: bytes) -> list[Outgoing]:
        address = topics.parse(topic)
        message = envelope.decode("up", address.kind, payload).message
        if isinstance(message, Locate):
            located, new = sharing.locate(blobs.ref(message.blob), message.bases, zstd=message.zstd)
            chunks = [shared_outgoing(blobs.chunk(one.sha256, index)) for one in new for index in chunk_indices(one)]
            return [Outgoing(address.device, located, "located"), *chunks]
        if isinstance(message, Pull):
            asked.extend((address.device, index) for index in message.chunks)
            return [
                Outgoing(address.device, blobs.chunk(message.blob, index, message.chunk_bytes), f"chunk-{index}")
                for index in message.chunks
            ]
        return []

    with Gateway(fleet.cloud(), FLEET, fleet.host, fleet.port, respond):
        yield ref
    blobs.close()


class _Watched(Session):
    """Notes which chunks are here, and which of them are asked for all the same."""

    here: set[int]
    asked_again: list[int]

    def hear(self, timeout_s: float, connection: int | None = None) -> Incoming | None:
        """See `Session.hear`."""
        incoming = super().hear(timeout_s, connection)
        if incoming is not None and isinstance(incoming.message, Chunk):
            self.here.add(incoming.message.index)
        return incoming

    def say(self, message: Message) -> str:
        """See `Session.say`."""
        if isinstance(message, Pull):
            self.asked_again.extend(self.here.intersection(message.chunks))
        return super().say(message)


def _through(proxy: ChaosProxy, fleet: FleetBroker, device: str, folder: Path) -> EdgeConfig:
    return replace(config_for(fleet, device, folder), host="127.0.0.1", port=proxy.port)


@pytest.mark.parametrize("shared", [False, True])
def test_a_transfer_that_is_cut_often_asks_for_each_chunk_until_it_is_here(
    own_broker: FleetBroker, tmp_path: Path, shared: bool
) -> None:
    """Eight cuts in one transfer: no chunk that is here is asked for again, and the whole arrives."""
    asked: list[tuple[str, int]] = []
    fetch = fetch_published if shared else fetch_blob
    weather = Weather(0.002, 4e6, 0.01)
    with (
        cloud_of(own_broker, tmp_path / "cloud", asked) as ref,
        ChaosProxy(own_broker.host, own_broker.port, weather) as proxy,
        Store(tmp_path / "device") as store,
        Link(_through(proxy, own_broker, "cut-1", tmp_path)) as link,
    ):
        session, cuts = _Watched(link, store, lambda _event: None, WAIT_S), 0
        session.here, session.asked_again = set(), []

        def cut(here: int, _total: int) -> None:
            nonlocal cuts
            if here >= (cuts + 1) * len(BLOB) / 9 and cuts < 8:
                cuts += 1
                proxy.cut()

        path = fetch(session, store, ref, cut)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == ref.sha256
        assert cuts == 8
        assert link.connections >= 8
        assert not session.asked_again
    if not shared:
        # All may be under way when a cut comes: the window holds 64 chunks. So after each cut it asks for what is not
        # here, 9/9 of all, 8/9 and so on: five times as many in all. Whoever began anew would ask for nine times.
        assert len(asked) < 6 * chunk_count(ref.size_bytes)
    else:
        assert not asked


def test_what_the_broker_has_is_read_once(own_broker: FleetBroker, tmp_path: Path) -> None:
    """By a second device too, after the cloud was started again: asked, it would put everything there anew."""
    for number in range(2):
        asked: list[tuple[str, int]] = []
        with (
            cloud_of(own_broker, tmp_path / f"cloud-{number}", asked) as ref,
            Store(tmp_path / f"device-{number}") as store,
            Link(config_for(own_broker, f"once-{number}", tmp_path)) as link,
        ):
            session = Session(link, store, lambda _event: None, WAIT_S)
            assert fetch_published(session, store, ref).read_bytes() == BLOB
            assert len(BLOB) < link.network().payload_down < 1.05 * len(BLOB)
            assert not asked


@pytest.mark.skipif(not zstd_available(), reason="zstandard is not installed")
def test_a_new_version_travels_as_its_difference(own_broker: FleetBroker, tmp_path: Path) -> None:
    """A device that holds the old model reads a patch, and has the new one whole; one whose old file is spoilt, too."""
    asked: list[tuple[str, int]] = []
    newer = bytearray(BLOB)
    newer[1000:1010] = b"0123456789"
    with closing(BlobStore(tmp_path / "cloud")) as blobs:
        new = blobs.put(bytes(newer))
    with (
        cloud_of(own_broker, tmp_path / "cloud", asked) as old,
        Store(tmp_path / "device") as store,
        Link(config_for(own_broker, "patch-1", tmp_path)) as link,
    ):
        session = Session(link, store, lambda _event: None, WAIT_S)
        fetch_published(session, store, old)
        before = link.network()
        assert fetch_published(session, store, new).read_bytes() == bytes(newer)
        used = link.network() - before
        assert used.mqtt_down < len(newer) / 50
        assert set(store.blobs.whole()) == {old.sha256, new.sha256}
        assert not asked
        store.blobs.discard(new.sha256)
        store.blobs.path(old.sha256).write_bytes(BLOB[:-1] + b"x")
        assert fetch_published(session, store, new).read_bytes() == bytes(newer)


def test_a_half_open_link_is_broken_off(
    own_broker: FleetBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither end is told that the other is gone: the device notices that nothing moves, and connects again."""
    monkeypatch.setattr("protocol.connection.SILENT_S", 0.3)
    monkeypatch.setattr("edge.tunnel.line._LOOP_S", 0.05)
    with (
        ChaosProxy(own_broker.host, own_broker.port) as proxy,
        Link(_through(proxy, own_broker, "half-1", tmp_path)) as link,
    ):
        link.open(WAIT_S)
        proxy.silence()
        sent = link.send("hello", encode(HELLO, "m1"), WAIT_S)
        assert _settles(link, sent) is not Fate.ON_ITS_WAY
        assert link.connections >= 2  # on a slow machine a new connection may seem silent, too


def test_a_message_that_nobody_hears_is_known_to_be_lost(own_broker: FleetBroker, tmp_path: Path) -> None:
    """The broker says that it had no subscriber; once there is one, it is heard."""
    heard = threading.Event()

    def respond(_topic: str, _payload: bytes) -> list[Outgoing]:
        heard.set()
        return []

    with Link(config_for(own_broker, "unheard-1", tmp_path)) as link:
        assert _settles(link, link.send("hello", encode(HELLO, "m1"), WAIT_S)) is Fate.UNHEARD
        with Gateway(own_broker.cloud(), FLEET, own_broker.host, own_broker.port, respond):
            assert _settles(link, link.send("hello", encode(HELLO, "m1"), WAIT_S)) is Fate.TAKEN
            assert heard.wait(WAIT_S)


def _settles(link: Link, sent: int) -> Fate:
    deadline_s = time.monotonic() + WAIT_S
    while (fate := link.fate(sent)) is Fate.ON_ITS_WAY and time.monotonic() < deadline_s:
        link.receive(0.02)
    return fate
