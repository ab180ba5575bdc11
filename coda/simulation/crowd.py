"""Many simulated devices on one thread: their sockets, the times at which they ask, and what became of it."""

from __future__ import annotations

import heapq
import itertools
import random
import selectors
import socket
import ssl
import time
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from typing import Any

from coda.simulation.credentials import Credentials
from coda.simulation.device import KEEPALIVE_S, Outcome, SimulatedDevice
from coda.simulation.errors import SimulationError
from coda.simulation.questions import Questions
from protocol import mqtt_codec
from protocol.schema import FeatureSchema

_CONNECTING = 32  # handshakes at a time
_CONNECT_TIMEOUT_S = 120.0
_READ_BYTES = 16 << 10  # a TLS record; a larger buffer would be made and cut for each
_LOOK_S = 0.05
_LAST_WAIT_S = 30.0


@dataclass
class Found:
    """What a crowd's questions came to.

    Attributes:
        asked: Questions.
        occupied: Questions that no device was free to ask.
        lost: Of these, neither answered nor put off.
        still_put_off: Of these, put off to a time after the end.
        put_offs: Times that devices were told to come again.
        unheard: Messages that the broker had nobody to hand to.
        broken: Connections that ended.
        size_bytes: Of all samples that came.
        samples: That came.
        at_once_s: How long each question took that was not put off, from when it was to be asked to the last byte.
        after_put_off_s: And each that was.
        while_asking: How many of both were answered before the last question was due.
        faults: Why others failed.
        cpu_s: Processor time that asking took this process.
    """

    asked: int = 0
    occupied: int = 0
    lost: int = 0
    still_put_off: int = 0
    put_offs: int = 0
    unheard: int = 0
    broken: int = 0
    size_bytes: int = 0
    samples: int = 0
    at_once_s: list[float] = field(default_factory=list)
    after_put_off_s: list[float] = field(default_factory=list)
    while_asking: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `dataclasses.asdict` would spoil the counter."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Found:
        """Inverse of `to_dict`."""
        return cls(**{**values, "faults": Counter(values["faults"])})

    def __add__(self, other: Found) -> Found:
        return Found(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def note(self, outcome: Outcome, now_s: float, end_s: float) -> None:
        """Count what became of a question; the asking ends at ``end_s``."""
        if outcome.fault:
            self.faults[outcome.fault] += 1
            return
        (self.after_put_off_s if outcome.refused else self.at_once_s).append(now_s - outcome.begun_s)
        self.while_asking += now_s < end_s
        self.size_bytes += outcome.size_bytes
        self.samples += outcome.samples


@dataclass
class _Connection:
    device: SimulatedDevice
    channel: ssl.SSLSocket
    shaken: bool = False
    wants: int = selectors.EVENT_READ
    said_s: float = 0.0
    look_s: float = 0.0


class Crowd:
    """Devices of one process; a context manager that closes their connections.

    Attributes:
        ready: Devices that are connected.
        found: What is counted at present.
    """

    def __init__(
        self, credentials: Credentials, names: list[str], schema: FeatureSchema, questions: Questions,
        *, seed: int, decode_share: float,
    ) -> None:  # fmt: skip
        """Prepare.

        Args:
            credentials: Let each device connect under its name.
            names: The devices'.
            schema: Of the samples.
            questions: What is asked.
            seed: Of when who asks.
            decode_share: Share of the devices that decode what they get; all check its digest.
        """
        self._credentials, self._questions = credentials, questions
        self._rng = random.Random(seed)  # noqa: S311 - when who asks, not a secret
        self._selector = selectors.DefaultSelector()
        self._connections: list[_Connection] = []
        self._names = deque((name, self._rng.random() < decode_share) for name in names)
        self._schema = schema
        self._free: deque[_Connection] = deque()
        self._asking: set[int] = set()
        self._asked = self.ready = 0
        self._end_s = 0.0
        self._clocks: list[tuple[float, int, _Connection]] = []  # when to look at whom; the numbers break ties
        self._numbers = itertools.count()
        self.found = Found()

    def connect(self) -> float:
        """Connect them all; how long that took.

        Raises:
            SimulationError: If the broker is not there, or lets one not in.
        """
        begun_s, wanted = time.monotonic(), len(self._names)
        while self.ready < wanted:
            while self._names and len(self._connections) - self.ready < _CONNECTING:
                self._open(*self._names.popleft())
            self._step(_LOOK_S)
            if time.monotonic() - begun_s > _CONNECT_TIMEOUT_S + wanted / 50:
                raise SimulationError(f"{self.ready} of {wanted} devices connected in {_CONNECT_TIMEOUT_S:.0f} s")
        self._free.extend(self._connections)
        for connection in self._connections:
            self._look_again(connection, connection.said_s + KEEPALIVE_S / 2)
        return time.monotonic() - begun_s

    def ask(self, rate: float, duration_s: float, patience_s: float) -> Found:
        """Ask at random moments, ``rate`` times a second on average, and wait for what is asked.

        Args:
            rate: Questions a second.
            duration_s: How long to ask.
            patience_s: How long to go on after the last question with those that are put off; then those alone are
                waited for that were not, and what has no answer `_LAST_WAIT_S` later is lost.
        """
        self.found = Found()
        now_s, begun_cpu_s = time.monotonic(), time.process_time()
        end_s, due_s = now_s + duration_s, now_s + self._rng.expovariate(rate)
        self._end_s = end_s
        while now_s < end_s or (self._asking and now_s < end_s + patience_s):
            while due_s <= now_s and due_s < end_s:
                self._ask_one(due_s)
                due_s += self._rng.expovariate(rate)
            self._repeat(now_s)
            self._step(max(0.0, min(_LOOK_S, due_s - now_s if due_s < end_s else _LOOK_S)))
            now_s = time.monotonic()
        while self._unanswered() and now_s < end_s + patience_s + _LAST_WAIT_S:
            self._step(_LOOK_S)
            now_s = time.monotonic()
        self._end_questions()
        self.found.cpu_s = time.process_time() - begun_cpu_s
        return self.found

    def rest(self, duration_s: float) -> None:
        """Stay connected without asking."""
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self._step(_LOOK_S)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.channel.close()
        self._selector.close()

    def _open(self, name: str, decodes: bool) -> None:
        raw = socket.create_connection((self._credentials.host, self._credentials.port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setblocking(False)
        channel = self._credentials.context_for(name).wrap_socket(
            raw, server_hostname=self._credentials.host, do_handshake_on_connect=False
        )
        device = SimulatedDevice(self._credentials.fleet, name, self._schema, decode_samples=decodes)
        device.greet()
        connection = _Connection(device, channel)
        self._connections.append(connection)
        self._selector.register(channel, connection.wants, connection)
        self._shake(connection)

    def _shake(self, connection: _Connection) -> None:
        try:
            connection.channel.do_handshake()
        except ssl.SSLWantReadError:
            self._want(connection, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._want(connection, selectors.EVENT_WRITE)
        except OSError as error:
            raise SimulationError(f"{connection.device.name} cannot connect: {error}") from error
        else:
            connection.shaken = True
            self._send(connection)

    def _step(self, timeout_s: float) -> None:
        for key, _events in self._selector.select(timeout_s):
            connection: _Connection = key.data
            if not connection.shaken:
                self._shake(connection)
                continue
            try:
                self._receive(connection)
                self._send(connection)
            except OSError as error:
                self._drop(connection, error)

    def _receive(self, connection: _Connection) -> None:
        while True:
            try:
                data = connection.channel.recv(_READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                raise ConnectionResetError("the broker closed it")
            now_s, was_ready = time.monotonic(), connection.device.ready
            outcome = connection.device.hear(data, now_s, self._rng.random)
            self.ready += connection.device.ready and not was_ready
            asking = connection.device.asking
            if outcome is not None:
                self.found.note(outcome, now_s, self._end_s)
                self._settle(connection)
            elif asking is not None and asking.again_s is not None:
                self._look_again(connection, asking.again_s)
            if not connection.channel.pending():
                return

    def _settle(self, connection: _Connection) -> None:
        self._asking.discard(id(connection))
        self._free.append(connection)

    def _send(self, connection: _Connection) -> None:
        out = connection.device.out
        while out:
            try:
                sent = connection.channel.send(out)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLWantWriteError:
                self._want(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
                return
            del out[:sent]
            connection.said_s = time.monotonic()
        self._want(connection, selectors.EVENT_READ)

    def _want(self, connection: _Connection, events: int) -> None:
        if connection.wants != events:
            connection.wants = events
            self._selector.modify(connection.channel, events, connection)

    def _drop(self, connection: _Connection, error: OSError) -> None:
        self.found.broken += 1
        outcome = connection.device.give_up(f"connection lost: {error}")
        if outcome is not None:
            self.found.note(outcome, time.monotonic(), self._end_s)
        self._asking.discard(id(connection))
        self._selector.unregister(connection.channel)
        connection.channel.close()
        self.ready -= connection.device.ready
        connection.device.ready = False

    def _ask_one(self, due_s: float) -> None:
        while self._free and not self._free[0].device.ready:
            self._free.popleft()
        if not self._free:
            self.found.occupied += 1
            return
        connection = self._free.popleft()
        self._asked += 1
        self.found.asked += 1
        self._asking.add(id(connection))
        connection.device.ask(self._questions.ask(f"{connection.device.name}-q{self._asked:08d}"), due_s)
        self._try_send(connection)

    def _try_send(self, connection: _Connection) -> None:
        try:
            self._send(connection)
        except OSError as error:
            self._drop(connection, error)

    def _repeat(self, now_s: float) -> None:
        """Ask again what was put off and is due; keep quiet connections alive."""
        while self._clocks and self._clocks[0][0] <= now_s:
            when_s, _, connection = heapq.heappop(self._clocks)
            device, asking = connection.device, connection.device.asking
            if when_s != connection.look_s or not device.ready:
                continue  # it is looked at another time, or not at all any more
            if asking is not None and asking.again_s is not None and asking.again_s <= now_s:
                device.ask_again()
            elif now_s - connection.said_s >= KEEPALIVE_S / 2:
                device.out += mqtt_codec.pingreq()
            self._try_send(connection)
            self._look_again(connection, max(connection.said_s + KEEPALIVE_S / 2, now_s + 1))

    def _look_again(self, connection: _Connection, when_s: float) -> None:
        connection.look_s = when_s
        heapq.heappush(self._clocks, (when_s, next(self._numbers), connection))

    def _end_questions(self) -> None:
        for connection in self._connections:
            device = connection.device
            self.found.put_offs += device.put_offs
            self.found.unheard += device.unheard
            device.put_offs = device.unheard = 0
            put_off = device.asking is not None and device.asking.again_s is not None
            if device.give_up("lost") is not None:
                self.found.still_put_off += put_off
                self.found.lost += not put_off
                self._settle(connection)

    def _unanswered(self) -> bool:
        """Whether a question is under way that is not put off."""
        asking = (connection.device.asking for connection in self._connections)
        return any(one is not None and one.again_s is None for one in asking)
