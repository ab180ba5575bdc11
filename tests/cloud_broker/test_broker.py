"""The private Mosquitto: who gets in, who may say what, what survives, and how failures are told."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud_broker.errors import BrokerError, BrokerNotFoundError, PortTakenError
from cloud_broker.membership.certificates import FleetAuthority
from cloud_broker.mosquitto import broker as broker_module
from cloud_broker.mosquitto.broker import Broker, find_mosquitto, mosquitto_version, write_broker_directory
from cloud_broker.mosquitto.configuration import CHANGES_UNSAVED
from protocol import topics
from protocol.messages import Accepted, Presence
from tests.broker_fixtures import FLEET, FleetBroker, Peer, start_fleet_broker
from tests.ports import free_port

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def fleet_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetBroker]:
    """These tests' own: some listen to all that is said, and others' devices and models may still be there."""
    fleet = start_fleet_broker(tmp_path_factory.mktemp("broker"))
    yield fleet
    fleet.broker.stop()


def test_it_names_its_version_and_process(fleet_broker: FleetBroker) -> None:
    """The version comes from the binary, and the process is alive."""
    assert fleet_broker.broker.version == mosquitto_version(find_mosquitto())
    assert fleet_broker.broker.version.count(".") == 2
    assert fleet_broker.broker.pid is not None


def test_a_device_and_the_cloud_speak(peer: Callable[..., Peer]) -> None:
    """What a device says reaches the shared subscription; what the cloud says reaches that device."""
    cloud, device = peer("cloud"), peer("dev-speak")
    assert not cloud.subscribe(topics.cloud_filter(FLEET)).is_failure
    device.listen()
    assert not device.say(Presence(True), "m1").is_failure
    assert cloud.hear("presence").message == Presence(True)
    assert not cloud.say(Accepted("m1"), "m2", device="dev-speak").is_failure
    assert device.hear().message == Accepted("m1")


def test_speaking_for_another_device_is_refused(peer: Callable[..., Peer]) -> None:
    """A publish on another device's topic is answered with "not authorized" and reaches nobody."""
    cloud, thief = peer("cloud"), peer("dev-thief")
    cloud.subscribe(topics.cloud_filter(FLEET))
    assert thief.say(Presence(True), "forged", device="dev-victim").getName() == "Not authorized"
    honest = peer("dev-honest")
    honest.say(Presence(True), "honest")
    assert cloud.hear("presence").message_id == "honest"


@pytest.mark.parametrize("direction", ["down", "up"])
def test_speaking_as_the_cloud_is_refused(peer: Callable[..., Peer], direction: str) -> None:
    """A device may not write to a device's down topics, not even its own; the cloud may not write up."""
    speaker = peer("dev-imposter") if direction == "down" else peer("cloud")
    topic = f"{topics.ROOT}/{FLEET}/dev-imposter/{direction}/task"
    assert speaker.publish(topic, b"x").getName() == "Not authorized"


@pytest.mark.parametrize(
    "topic", ["#", f"{topics.ROOT}/{FLEET}/dev-target/down/#", f"$share/x/{topics.ROOT}/{FLEET}/+/up/+"]
)
def test_listening_to_another_device_stays_silent(peer: Callable[..., Peer], topic: str) -> None:
    """A forbidden subscription delivers nothing of what is said to or by others, retained or live."""
    cloud, spy, target = peer("cloud"), peer("dev-spy"), peer("dev-target")
    cloud.say(Accepted("retained"), "r", device="dev-target")
    spy.subscribe(topic)
    spy.listen()
    cloud.say(Accepted("secret"), "s", device="dev-target")
    target.say(Presence(True), "p")
    # Messages keep their order, so the first thing the spy hears proves what it did not hear before.
    cloud.say(Accepted("yours"), "y", device="dev-spy")
    assert spy.hear().message == Accepted("yours")


def _handshake(fleet: FleetBroker, context: ssl.SSLContext) -> None:
    """Connect and read: in TLS 1.3 a refused certificate shows at the first read."""
    with (
        socket.create_connection((fleet.host, fleet.port), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname=fleet.host) as channel,
    ):
        assert channel.recv(1), "closed without a word"


def test_no_certificate_no_entry(fleet_broker: FleetBroker) -> None:
    """A client without a certificate does not get past TLS."""
    context = ssl.create_default_context(cafile=str(fleet_broker.config.authority().ca_file))
    with pytest.raises(ssl.SSLError, match=r"certificate required|handshake failure"):
        _handshake(fleet_broker, context)


def test_a_self_made_certificate_is_refused(fleet_broker: FleetBroker, tmp_path: Path) -> None:
    """A certificate of an authority that calls itself the same is not one of the fleet's."""
    forged = FleetAuthority(tmp_path / "forged", FLEET).device("dev-a")
    context = ssl.create_default_context(cafile=str(fleet_broker.config.authority().ca_file))
    context.load_cert_chain(forged.cert_file, forged.key_file)
    with pytest.raises(ssl.SSLError, match=r"unknown ca|decrypt error|certificate"):
        _handshake(fleet_broker, context)


def test_old_tls_is_refused(fleet_broker: FleetBroker) -> None:
    """TLS 1.1 is not spoken."""
    context = fleet_broker.device("dev-old").client_context()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        _handshake(fleet_broker, context)


def test_a_client_cannot_take_over_anothers_session(fleet_broker: FleetBroker) -> None:
    """The broker knows a client by its certificate, so claiming another's client id gets its own session."""
    with Peer(fleet_broker, fleet_broker.device("dev-owner"), persistent=True) as owner:
        owner.listen()
    # The thief connects with client id "dev-owner" and its own certificate.
    context = fleet_broker.device("dev-taker").client_context()
    with Peer(fleet_broker, fleet_broker.cloud()) as cloud:
        cloud.say(Accepted("for the owner"), "m", device="dev-owner")
    thief = Peer(fleet_broker, fleet_broker.device("dev-owner"), context=context, persistent=True)
    with thief, Peer(fleet_broker, fleet_broker.cloud()) as cloud:
        thief.subscribe(topics.device_filter(FLEET, "dev-taker"))
        cloud.say(Accepted("for the taker"), "m", device="dev-taker")
        assert thief.hear().message == Accepted("for the taker")


def test_queued_messages_survive_sigkill(own_broker: FleetBroker) -> None:
    """What was queued for an absent device is delivered after the broker was killed, but for the last changes.

    Mosquitto saves right after it acknowledges, before it reads on; each message is at least one change.
    """
    sent = CHANGES_UNSAVED + 200
    with Peer(own_broker, own_broker.device("dev-a"), persistent=True) as device:
        device.listen()
    with Peer(own_broker, own_broker.cloud()) as cloud:
        for mid in [cloud.post(Accepted(f"m{number}"), f"id{number}", device="dev-a") for number in range(sent)]:
            assert not cloud.wait_published(mid).is_failure
    own_broker.broker.kill()
    own_broker.broker.start()
    kept = sent - CHANGES_UNSAVED - 1
    with Peer(own_broker, own_broker.device("dev-a"), persistent=True) as device:
        assert [device.hear().message_id for _ in range(kept)] == [f"id{number}" for number in range(kept)]


def test_more_than_the_default_queue_waits_for_a_slow_device(own_broker: FleetBroker) -> None:
    """Mosquitto's default silently drops beyond 1,000 queued messages; this one keeps 3,000."""
    with Peer(own_broker, own_broker.device("dev-a"), persistent=True) as device:
        device.listen()
    with Peer(own_broker, own_broker.cloud()) as cloud:
        mids = [cloud.post(Accepted(f"m{number}"), "x", device="dev-a") for number in range(3000)]
        for mid in mids:
            cloud.wait_published(mid)
    with Peer(own_broker, own_broker.device("dev-a"), persistent=True) as device:
        assert [device.hear().message for _ in range(3000)] == [Accepted(f"m{number}") for number in range(3000)]


def test_stopping_frees_the_port(own_broker: FleetBroker) -> None:
    """After stop, the port can be bound and the process is gone; stopping again does nothing."""
    pid = own_broker.broker.pid
    assert pid is not None
    own_broker.broker.stop()
    own_broker.broker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with own_broker.broker:
        assert own_broker.broker.pid != pid


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """Another program on the port is a PortTakenError that names it and how to find the program."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = write_broker_directory(tmp_path, FLEET, port=port)
        with pytest.raises(PortTakenError, match=rf"port {port} .*ss -ltnp") as caught:
            Broker(config).start()
        assert caught.value.port == port


def test_a_broken_configuration_shows_the_log(tmp_path: Path) -> None:
    """When Mosquitto dies at start, the error carries what it said."""
    config = write_broker_directory(tmp_path, FLEET, port=free_port())
    config.config_file.write_text("nonsense true\n")
    with pytest.raises(BrokerError, match="Unknown configuration variable"):
        Broker(config).start()


def test_a_machine_without_mosquitto_hears_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither in PATH nor in the system's folders: an error that names the package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(broker_module, "_SYSTEM_FOLDERS", (str(tmp_path),))
    with pytest.raises(BrokerNotFoundError, match="apt-get install mosquitto"):
        find_mosquitto()


def test_an_ordinary_users_path_still_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian keeps daemons in /usr/sbin, which is not in everyone's PATH."""
    found = find_mosquitto()
    monkeypatch.setattr(broker_module, "_SYSTEM_FOLDERS", (str(found.parent),))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mosquitto() == found


def test_another_program_is_not_taken_for_mosquitto() -> None:
    """An executable that states no Mosquitto version is refused."""
    with pytest.raises(BrokerError, match="does not say a mosquitto version"):
        mosquitto_version(Path("/bin/true"))


@pytest.mark.parametrize("port", [0, 65536])
def test_an_impossible_port_is_refused(tmp_path: Path, port: int) -> None:
    """Nothing is written for a port that cannot be."""
    with pytest.raises(BrokerError, match=f"port {port}"):
        write_broker_directory(tmp_path / "broker", FLEET, port=port)
    assert not (tmp_path / "broker").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_broker_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """A parent that gets SIGKILL leaves no broker behind."""
    port = free_port()
    write_broker_directory(tmp_path, FLEET, port=port)
    script = (
        "import sys; from pathlib import Path; from cloud_broker.mosquitto.broker import Broker, BrokerConfig\n"
        f"b = Broker(BrokerConfig(Path({str(tmp_path)!r}), {FLEET!r}, '127.0.0.1', {port})); b.start()\n"
        "print(b.pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        handle = os.pidfd_open(pid)
        parent.send_signal(signal.SIGKILL)
    _wait_for_exit(handle)


def _wait_for_exit(handle: int) -> None:
    import select

    readable, _, _ = select.select([handle], [], [], 10)
    os.close(handle)
    assert readable, "the broker outlived its parent"
