"""The connection, over a real Mosquitto with mutual TLS."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_broker.membership.certificates import FleetAuthority
from edge.config import EdgeConfig
from edge.errors import CertificateError, StoppedError, UnreachableError
from edge.tunnel.inbox import MAX_MESSAGES, Inbox
from edge.tunnel.link import Link
from protocol.envelope import decode, encode
from protocol.messages import Accepted, Hello, Presence
from tests.broker_fixtures import FLEET, FleetBroker, Peer
from tests.ports import free_port

HELLO = Hello("1", "runtime", "board", ())
WAIT_S = 15.0

pytestmark = pytest.mark.broker


def config_for(fleet: FleetBroker, device: str, state_dir: Path) -> EdgeConfig:
    """A device's configuration for the test broker."""
    identity = fleet.device(device)
    return EdgeConfig(
        device=device,
        fleet=FLEET,
        host=fleet.host,
        port=fleet.port,
        ca_file=identity.ca_file,
        cert_file=identity.cert_file,
        key_file=identity.key_file,
        state_dir=state_dir,
        timeout_s=WAIT_S,
    )


def _cloud_listening(peer: Callable[..., Peer], device: str) -> Peer:
    cloud = peer("cloud")
    assert not cloud.subscribe(f"coda/v1/{FLEET}/{device}/up/+").is_failure
    return cloud


def test_messages_pass_both_ways(fleet_broker: FleetBroker, peer: Callable[..., Peer], tmp_path: Path) -> None:
    """A device is seen online, heard, and answered; then seen offline when it leaves."""
    cloud = _cloud_listening(peer, "link-1")
    with Link(config_for(fleet_broker, "link-1", tmp_path)) as link:
        link.open(WAIT_S)
        assert cloud.hear("presence").message == Presence(True)
        link.send("hello", encode(HELLO, "m1"), WAIT_S)
        assert cloud.hear("hello").message == HELLO
        cloud.say(Accepted("m1"), "a1", device="link-1")
        delivery = link.receive(WAIT_S)
        assert delivery is not None
        assert decode("down", delivery.kind, delivery.payload).message == Accepted("m1")
        link.acknowledge(delivery)
        assert link.receive(0.05) is None
    assert cloud.hear("presence").message == Presence(False)


def test_a_closed_link_holds_no_socket(fleet_broker: FleetBroker, tmp_path: Path) -> None:
    """Not even while something still refers to it, as a traceback may for long."""
    before = _sockets()
    link = Link(config_for(fleet_broker, "link-13", tmp_path))
    link.open(WAIT_S)
    assert _sockets() - before
    link.close()
    assert not _sockets() - before


def _sockets() -> set[str]:
    """Those of this process."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith("socket:")}


def test_bytes_are_counted_at_three_depths(fleet_broker: FleetBroker, tmp_path: Path) -> None:
    """MQTT carries more than the payloads, TCP more than MQTT, and no counter ever falls."""
    payload = encode(Hello("1", "r" * 50_000, "b", ()), "m1")
    with Link(config_for(fleet_broker, "link-2", tmp_path)) as link:
        link.open(WAIT_S)
        before = link.network()
        link.send("hello", payload, WAIT_S)
        deadline_s = time.monotonic() + WAIT_S
        while not link.everything_sent and time.monotonic() < deadline_s:
            link.receive(0.01)
        used = link.network() - before
        assert used.payload_up == len(payload)
        assert len(payload) < used.mqtt_up < len(payload) + 200
        total = link.network()
        assert total.tcp_up is not None
        assert total.tcp_down is not None
        assert total.tcp_down > total.mqtt_down
    after = link.network()
    assert after.tcp_up is not None
    assert after.tcp_up > after.mqtt_up > after.payload_up


def test_an_unacknowledged_message_comes_again(
    fleet_broker: FleetBroker, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    """A device that dies before it acknowledges is told once more; one that did is not."""
    cloud, config = peer("cloud"), config_for(fleet_broker, "link-3", tmp_path)
    with Link(config) as link:
        link.open(WAIT_S)
        cloud.say(Accepted("m1"), "a1", device="link-3")
        assert link.receive(WAIT_S) is not None
    with Link(config) as link:
        link.open(WAIT_S)
        again = link.receive(WAIT_S)
        assert again is not None
        assert decode("down", again.kind, again.payload).message_id == "a1"
        link.acknowledge(again)
    with Link(config) as link:
        link.open(WAIT_S)
        assert link.receive(0.3) is None


def test_messages_wait_while_the_device_is_away(
    fleet_broker: FleetBroker, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    """The broker queues for a session that is not connected."""
    cloud, config = peer("cloud"), config_for(fleet_broker, "link-4", tmp_path)
    with Link(config) as link:
        link.open(WAIT_S)
    cloud.say(Accepted("m1"), "a1", device="link-4")
    with Link(config) as link:
        link.open(WAIT_S)
        assert link.receive(WAIT_S) is not None


def test_a_killed_broker_is_found_again(own_broker: FleetBroker, tmp_path: Path) -> None:
    """The link reconnects by itself, says that it did, and works on."""
    with Link(config_for(own_broker, "link-5", tmp_path)) as link:
        link.open(WAIT_S)
        assert link.connections == 1
        own_broker.broker.kill()
        own_broker.broker.start()
        deadline_s = time.monotonic() + WAIT_S
        while link.connections < 2 and time.monotonic() < deadline_s:
            link.receive(0.05)
        link.send("hello", encode(HELLO, "m1"), WAIT_S)
        with Peer(own_broker, own_broker.cloud()) as cloud:
            cloud.subscribe(f"coda/v1/{FLEET}/link-5/up/+")
            link.send("hello", encode(HELLO, "m2"), WAIT_S)
            assert cloud.hear("hello").message == HELLO
    assert link.connections >= 2


@pytest.mark.parametrize("limit", [25, MAX_MESSAGES])
def test_an_inbox_that_is_not_read_is_bounded(
    fleet_broker: FleetBroker,
    peer: Callable[..., Peer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
) -> None:
    """What does not fit while nobody reads is turned away, and comes again when there is room: nothing is lost."""
    monkeypatch.setattr("edge.tunnel.line.Inbox", lambda: Inbox(limit))
    cloud, count, device = peer("cloud"), 60, f"link-6-{limit}"
    config = config_for(fleet_broker, device, tmp_path)
    with Link(config) as link:
        link.open(WAIT_S)
    for number in range(count):
        cloud.wait_published(cloud.post(Accepted("m"), f"a{number}", device=device))
    with Link(config) as link:
        link.open(WAIT_S)  # although the flood comes before the subscription is confirmed
        seen: set[str] = set()
        deadline_s = time.monotonic() + WAIT_S
        while len(seen) < count and time.monotonic() < deadline_s:
            delivery = link.receive(1.0)
            if delivery is not None:
                seen.add(decode("down", delivery.kind, delivery.payload).message_id)
                link.acknowledge(delivery)
        assert len(seen) == count


def test_an_unreachable_broker_is_told(fleet_broker: FleetBroker, tmp_path: Path) -> None:
    """Nobody listens on the port: the error names the broker and the reason."""
    config = replace(config_for(fleet_broker, "link-7", tmp_path), port=free_port())
    with (
        Link(config) as link,
        pytest.raises(UnreachableError, match=rf"localhost:{config.port}|:{config.port}: .*refused"),
    ):
        link.open(2.0)


def test_a_listener_without_tls_is_told(fleet_broker: FleetBroker, tmp_path: Path) -> None:
    """A port that does not speak TLS is unreachable, not a crash."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_S)
        config = replace(config_for(fleet_broker, "link-8", tmp_path), host="127.0.0.1", port=server.getsockname()[1])

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            server.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with Link(config) as link, pytest.raises(UnreachableError):
            link.open(2.0)
        thread.join()


def test_a_stranger_is_refused_at_once(fleet_broker: FleetBroker, tmp_path: Path) -> None:
    """A certificate of another fleet's authority: told whose certificate was refused, without waiting for a timeout."""
    theirs = FleetAuthority(tmp_path / "other", "other").device("link-9")
    ours = config_for(fleet_broker, "link-9", tmp_path)
    stranger = replace(ours, cert_file=theirs.cert_file, key_file=theirs.key_file)
    with Link(stranger) as link, pytest.raises(CertificateError, match="refuses this device's certificate"):
        link.open(60.0)


def test_a_false_broker_is_refused_at_once(fleet_broker: FleetBroker, tmp_path: Path) -> None:
    """A broker whose certificate is of another authority gets nothing from us."""
    theirs = FleetAuthority(tmp_path / "other", "other").device("link-10")
    config = replace(config_for(fleet_broker, "link-10", tmp_path), ca_file=theirs.ca_file)
    with Link(config) as link, pytest.raises(CertificateError, match="broker's certificate is refused"):
        link.open(60.0)


@pytest.mark.parametrize("which", ["ca_file", "cert_file", "key_file"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"])
def test_an_unreadable_certificate_is_told(
    fleet_broker: FleetBroker, tmp_path: Path, which: str, content: bytes | None
) -> None:
    """Absent, empty or garbled files are named before anything is sent; once the file is there, the link comes up."""
    path = tmp_path / "bad.pem"
    if content is not None:
        path.write_bytes(content)
    config = config_for(fleet_broker, "link-11", tmp_path)
    good, changes = getattr(config, which).read_bytes(), {which: path}
    with Link(replace(config, **changes)) as link:  # type: ignore[arg-type]
        with pytest.raises(CertificateError, match=r"bad\.pem"):
            link.open(60.0)
        path.write_bytes(good)
        deadline_s = time.monotonic() + WAIT_S
        while link.connections == 0 and time.monotonic() < deadline_s:
            threading.Event().wait(0.05)
        link.open(WAIT_S)


def test_a_wait_ends_when_told_to_stop(fleet_broker: FleetBroker, tmp_path: Path) -> None:
    """Not after its timeout."""
    stop = threading.Event()
    with Link(config_for(fleet_broker, "link-12", tmp_path), stop) as link:
        link.open(WAIT_S)
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(StoppedError):
            link.receive(600.0)
