"""The worker's connection to a real Mosquitto: nothing that was acted on is lost, nothing ends the worker."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_broker.errors import CertificateError, ConnectionFailedError
from cloud_broker.membership.certificates import FleetAuthority
from cloud_broker.membership.identity import Identity
from cloud_broker.workers.admission import LEAST_RETRY_S
from cloud_broker.workers.answers import Outgoing
from cloud_broker.workers.gateway import Gateway, Observer
from protocol import envelope, topics
from protocol.messages import Accepted, Busy, Chunk, Forget, Presence, Query
from tests.broker_fixtures import FLEET, WAIT_S, FleetBroker, Peer
from tests.coda.running import settled
from tests.ports import free_port

pytestmark = pytest.mark.broker

Heard = queue.Queue[tuple[str, bytes]]


def answer_accepted(topic: str, payload: bytes) -> list[Outgoing]:
    """Accept any message."""
    address = topics.parse(topic)
    return [Outgoing(address.device, Accepted(envelope.decode("up", address.kind, payload).message_id), "answer")]


def gateway_of(
    fleet: FleetBroker, respond: Callable[[str, bytes], list[Outgoing]], name: str = "cloud", threads: int = 2
) -> Gateway:
    """A worker's gateway, not started."""
    return Gateway(fleet.cloud(name), FLEET, fleet.host, fleet.port, respond, threads=threads)


@pytest.fixture
def fleet(own_broker: FleetBroker) -> FleetBroker:
    """A broker with no other worker's session on it."""
    return own_broker


@pytest.mark.parametrize("threads", [2, 0])
def test_many_messages_are_answered_in_each_devices_order(fleet: FleetBroker, threads: int) -> None:
    """500 messages of two devices are all answered, each device's in order."""
    with (
        gateway_of(fleet, answer_accepted, threads=threads),
        Peer(fleet, fleet.device("dev-a")) as a,
        Peer(fleet, fleet.device("dev-b")) as b,
    ):
        for device in (a, b):
            device.listen()
        for number in range(250):
            for device in (a, b):
                device.post(Presence(True), f"{device.name}-{number}", device=device.name)
        for device in (a, b):
            heard = [device.hear().message for _ in range(250)]
            assert heard == [Accepted(f"{device.name}-{number}") for number in range(250)]


def test_what_was_said_while_no_worker_ran_is_acted_on(fleet: FleetBroker) -> None:
    """The session outlives the worker, so a message sent in between is there when it comes back."""
    gateway_once = gateway_of(fleet, answer_accepted)
    with gateway_once:
        pass
    with Peer(fleet, fleet.device("dev-a")) as device:
        device.listen()
        assert not device.say(Presence(True), "meanwhile").is_failure
        with gateway_of(fleet, answer_accepted):
            assert device.hear().message == Accepted("meanwhile")


_DIES_WHILE_ACTING = """
import os, signal, sys
from pathlib import Path
from cloud_broker.workers.gateway import Gateway, Observer
from cloud_broker.membership.identity import Identity

def respond(topic, payload):
    os.kill(os.getpid(), signal.SIGKILL)

name, ca, cert, key, fleet, host, port = sys.argv[1:]
gateway = Gateway(Identity(name, Path(ca), Path(cert), Path(key)), fleet, host, int(port), respond)
gateway.start()
print("ready", flush=True)
gateway._threads[0].join()
"""


def test_a_message_in_a_killed_workers_hands_comes_again(fleet: FleetBroker) -> None:
    """A worker killed while it acts has not acknowledged, so the next one gets the message."""
    identity = fleet.cloud()
    paths = [str(path) for path in (identity.ca_file, identity.cert_file, identity.key_file)]
    command = [sys.executable, "-c", _DIES_WHILE_ACTING, "cloud", *paths, FLEET, fleet.host, str(fleet.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker, Peer(fleet, fleet.device("dev-a")) as device:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        device.listen()
        device.say(Presence(True), "dangerous")
        assert worker.wait(WAIT_S) == -9
        with gateway_of(fleet, answer_accepted):
            assert device.hear().message == Accepted("dangerous")


@pytest.mark.parametrize("threads", [2, 0])
def test_it_comes_back_after_the_broker_was_killed(fleet: FleetBroker, threads: int) -> None:
    """A restarted broker is found again without help, and messages flow."""
    with gateway_of(fleet, answer_accepted, threads=threads):
        with Peer(fleet, fleet.device("dev-a")) as device:
            device.listen()
            device.say(Presence(True), "before")
            assert device.hear().message == Accepted("before")
        fleet.broker.kill()
        fleet.broker.start()
        with Peer(fleet, fleet.device("dev-a")) as device:
            device.listen()
            # Mosquitto 2.0 forgets shared subscriptions when it restarts, and says so to whoever publishes meanwhile.
            assert any(device.say(Presence(True), "after").value == 0 for _ in range(100_000))
            # What the broker had not yet noted as delivered comes, and is answered, again.
            while device.hear().message != Accepted("after"):
                pass


def test_what_is_said_while_the_broker_is_away_is_said_when_it_is_back(fleet: FleetBroker) -> None:
    """What the broker does not have yet is kept, and said again on the next connection."""
    with gateway_of(fleet, answer_accepted) as gateway:
        fleet.broker.kill()
        for number in range(3):
            assert gateway.send(Outgoing(f"dev-{number}", Accepted("said"), "answer", retain=True))
        fleet.broker.start()
        for number in range(3):
            with Peer(fleet, fleet.device(f"dev-{number}")) as device:
                device.listen()
                assert device.hear().message == Accepted("said")


@pytest.mark.parametrize("threads", [2, 0])
def test_more_answers_than_may_be_on_their_way_all_arrive(fleet: FleetBroker, threads: int) -> None:
    """300 chunks, 20 MB, for one message: the sender waits where needed and none is lost."""
    data = bytes(64 << 10)

    def respond(topic: str, _payload: bytes) -> list[Outgoing]:
        device = topics.parse(topic).device
        return [Outgoing(device, Chunk("0" * 64, index, 0, data, len(data)), f"m{index}") for index in range(300)]

    with gateway_of(fleet, respond, threads=threads), Peer(fleet, fleet.device("dev-a")) as device:
        device.listen()
        device.say(Presence(True), "all")
        heard = [device.hear().message for _ in range(300)]
    assert [message.index for message in heard if isinstance(message, Chunk)] == list(range(300))


def test_two_workers_share_the_work(fleet: FleetBroker) -> None:
    """Each message goes to one of them."""
    heard: list[Heard] = [queue.Queue(), queue.Queue()]

    def listener(into: Heard) -> Callable[[str, bytes], list[Outgoing]]:
        def respond(topic: str, payload: bytes) -> list[Outgoing]:
            into.put((topic, payload))
            return answer_accepted(topic, payload)

        return respond

    workers = gateway_of(fleet, listener(heard[0])), gateway_of(fleet, listener(heard[1]), "cloud-2")
    with workers[0], workers[1], Peer(fleet, fleet.device("dev-a")) as device:
        device.listen()
        for number in range(40):
            device.say(Presence(True), f"m{number}")
        answers = {device.hear().message for _ in range(40)}
    assert answers == {Accepted(f"m{number}") for number in range(40)}
    assert all(each.qsize() > 0 for each in heard)
    assert heard[0].qsize() + heard[1].qsize() == 40


@pytest.mark.parametrize("threads", [2, 0])
def test_stopping_waits_for_what_is_being_acted_on(fleet: FleetBroker, threads: int) -> None:
    """A worker told to stop finishes its message and its answer goes out."""
    begun, finish = threading.Event(), threading.Event()

    def respond(topic: str, payload: bytes) -> list[Outgoing]:
        begun.set()
        finish.wait(WAIT_S)
        return answer_accepted(topic, payload)

    gateway = gateway_of(fleet, respond, threads=threads)
    gateway.start()
    with Peer(fleet, fleet.device("dev-a")) as device:
        device.listen()
        device.say(Presence(True), "last")
        assert begun.wait(WAIT_S)
        stopping = threading.Thread(target=gateway.stop, daemon=True)
        stopping.start()
        finish.set()
        stopping.join(WAIT_S)
        assert device.hear().message == Accepted("last")


def test_no_broker_is_a_clear_error(fleet: FleetBroker) -> None:
    """Where nothing listens, it says where it tried."""
    port = free_port()
    with pytest.raises(ConnectionFailedError, match=rf"broker at 127\.0\.0\.1:{port}.*refused"):
        Gateway(fleet.cloud(), FLEET, "127.0.0.1", port, answer_accepted).start()


def test_another_fleets_broker_is_a_clear_error(fleet: FleetBroker, tmp_path: Path) -> None:
    """A worker of another fleet neither trusts the broker nor is let in."""
    stranger = FleetAuthority(tmp_path / "other", "other").cloud_worker("cloud")
    with pytest.raises(ConnectionFailedError, match="certificate"):
        Gateway(stranger, FLEET, fleet.host, fleet.port, answer_accepted).start()


def test_a_broken_certificate_is_told_before_connecting(fleet: FleetBroker, tmp_path: Path) -> None:
    """Which file cannot be used."""
    identity = fleet.cloud()
    missing = Identity("cloud", identity.ca_file, identity.cert_file, tmp_path / "missing.key")
    with pytest.raises(CertificateError, match=r"missing\.key"):
        Gateway(missing, FLEET, fleet.host, fleet.port, answer_accepted)


def test_a_question_waits_for_nobody_elses_disk(fleet: FleetBroker) -> None:
    """While one device's message is being written, another's question is answered, but none of its own before it."""
    begun, finish = threading.Event(), threading.Event()

    def respond(topic: str, payload: bytes) -> list[Outgoing]:
        if topics.parse(topic).kind == Forget.kind:
            begun.set()
            assert finish.wait(WAIT_S)
        return answer_accepted(topic, payload)

    question = Query("q", 1, "0" * 64, 2, b"\0" * 4, (1.0,), 5, 100)
    with (
        gateway_of(fleet, respond, threads=1),
        Peer(fleet, fleet.device("dev-a")) as writer,
        Peer(fleet, fleet.device("dev-b")) as asker,
    ):
        writer.listen()
        asker.listen()
        writer.say(Forget(), "written")
        assert begun.wait(WAIT_S)
        writer.say(question, "asked after")
        asker.say(question, "asked meanwhile")
        assert asker.hear().message == Accepted("asked meanwhile")
        finish.set()
        assert [writer.hear().message for _ in range(2)] == [Accepted("written"), Accepted("asked after")]


def test_a_worker_with_too_much_to_do_puts_devices_off(fleet: FleetBroker) -> None:
    """What finds no room is told at once when to come again, and is not delivered again; what waited is answered."""
    begun, finish, put_off = threading.Event(), threading.Event(), list[str]()

    class Noting(Observer):
        def put_off(self, kind: str, retry_after_s: float) -> None:
            put_off.append(kind)

    def respond(topic: str, payload: bytes) -> list[Outgoing]:
        begun.set()
        finish.wait(WAIT_S)
        return answer_accepted(topic, payload)

    gateway = Gateway(fleet.cloud(), FLEET, fleet.host, fleet.port, respond, threads=1, patience_s=0, observer=Noting())
    with gateway, Peer(fleet, fleet.device("dev-a")) as device:
        device.listen()
        device.say(Forget(), "first")
        assert begun.wait(WAIT_S)
        for number in range(3):
            device.say(Forget(), f"too-much-{number}")
            busy = device.hear().message
            assert isinstance(busy, Busy)
            assert (busy.message_id, busy.retry_after_s >= LEAST_RETRY_S) == (f"too-much-{number}", True)
        device.say(Presence(True), "never put off")
        finish.set()
        assert device.hear().message == Accepted("first")
        assert device.hear().message == Accepted("never put off")
        settled(lambda: gateway.waiting == 0)  # an answer goes out before its message counts as done
        device.say(Forget(), "later")
        assert device.hear().message == Accepted("later")
    assert put_off == ["forget"] * 3


@pytest.mark.parametrize("threads", [2, 0])
def test_a_worker_that_leaves_hands_over_to_the_others(fleet: FleetBroker, threads: int) -> None:
    """It finishes what it has; what is said after that goes to the workers that stay, and none of it waits for it."""
    begun, finish = threading.Event(), threading.Event()

    def respond(topic: str, payload: bytes) -> list[Outgoing]:
        begun.set()
        finish.wait(WAIT_S)
        return answer_accepted(topic, payload)

    leaving = Gateway(
        fleet.cloud("cloud-2"), FLEET, fleet.host, fleet.port, respond, threads=threads, keep_session=False
    )
    leaving.start()
    with Peer(fleet, fleet.device("dev-a")) as device:
        device.listen()
        device.post(Presence(True), "before-0", device="dev-a")
        assert begun.wait(WAIT_S)
        with gateway_of(fleet, answer_accepted):
            stopping = threading.Thread(target=leaving.stop, daemon=True)
            stopping.start()
            finish.set()
            stopping.join(WAIT_S)
            for number in range(10):
                device.say(Presence(True), f"after-{number}")
            heard = [device.hear().message for _ in range(11)]
    assert heard == [Accepted("before-0"), *(Accepted(f"after-{number}") for number in range(10))]
