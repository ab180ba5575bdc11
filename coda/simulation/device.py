"""One simulated device: what it says, and what it makes of what it hears; no sockets and no clocks.

It says hello and its presence, asks for matched samples, has them in the answer or pulls them chunk by chunk, checks
their digest, and comes again when it is told that the cloud is busy: what a device's round asks of the cloud, without
the training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from coda.simulation.errors import BrokenPacketError
from coda.simulation.questions import Question
from protocol import mqtt_codec, topics
from protocol.batch_codec import decode_batch
from protocol.envelope import decode, encode
from protocol.errors import ProtocolError
from protocol.messages import (
    MAX_PULL_CHUNKS,
    Accepted,
    BlobRef,
    Busy,
    Chunk,
    Hello,
    Match,
    Message,
    Presence,
    Pull,
    Query,
    Refusal,
)
from protocol.schema import FeatureSchema
from protocol.topics import MAX_CHUNK_BYTES

RECEIVE_MAXIMUM = 20
KEEPALIVE_S = 300
_HELLO = Hello("coda simulate", "none", "simulated", ())


@dataclass
class Asking:
    """One question on its way to its samples.

    Attributes:
        question: What is asked.
        begun_s: When it was to be asked.
        samples: That the cloud found; None before it answered.
        refused: Times that it was put off.
        again_s: When to ask again after being put off; None while an answer is awaited.
    """

    question: Question
    begun_s: float
    samples: int | None = None
    refused: int = 0
    again_s: float | None = None
    blob: BlobRef | None = None
    missing: set[int] = field(default_factory=set)
    data: bytes | bytearray = b""


@dataclass(frozen=True)
class Outcome:
    """What became of a question.

    Attributes:
        begun_s: When it was to be asked.
        samples: That came; 0 where it failed.
        size_bytes: Of the samples.
        refused: Times that it was put off before.
        fault: Why it failed; empty where all is well.
    """

    begun_s: float
    samples: int
    size_bytes: int
    refused: int
    fault: str = ""


class SimulatedDevice:
    """Fed with packets; leaves in ``out`` what is to be sent.

    Attributes:
        name: Its name.
        ready: Whether it is connected, and hears what is said to it.
        asking: Its question; None while it has none.
        out: Bytes to be sent.
        put_offs: How often it was put off.
        unheard: Messages that the broker had nobody to hand to.
    """

    def __init__(self, fleet: str, name: str, schema: FeatureSchema, *, decode_samples: bool) -> None:
        self.name = name
        self.ready = False
        self.asking: Asking | None = None
        self.out = bytearray()
        self.put_offs = self.unheard = 0
        self._fleet, self._schema, self._decode = fleet, schema, decode_samples
        self._reader = mqtt_codec.Reader()
        self._mid = self._said = 0
        self._heard_at = topics.down(fleet, name, Match.kind).removesuffix(Match.kind)
        self._asks_at = self._up(Query.kind)

    def greet(self) -> None:
        """Connect, subscribe, and tell that it is there."""
        will = encode(Presence(False), self._next_id())
        self.out += mqtt_codec.connect(
            self.name, keepalive_s=KEEPALIVE_S, receive_maximum=RECEIVE_MAXIMUM,
            will=(self._up(Presence.kind), will),
        )  # fmt: skip
        self.out += mqtt_codec.subscribe(self._next_mid(), topics.device_filter(self._fleet, self.name))
        self._say(Presence(True), self._next_id(), retain=True)
        self._say(_HELLO, self._next_id())

    def ask(self, question: Question, now_s: float) -> None:
        """Ask for matched samples."""
        self.asking = Asking(question, now_s)
        self._put(question)

    def ask_again(self) -> None:
        """Ask what was put off."""
        if self.asking is not None:
            self.asking.again_s = None
            self._put(self.asking.question)

    def hear(self, data: bytes, now_s: float, jitter: Callable[[], float]) -> Outcome | None:
        """Take in bytes.

        Returns:
            What became of its question, if that is known now.

        Raises:
            SimulationError: If the broker refuses it, or says what is no MQTT.
        """
        outcome = None
        for packet in self._reader.feed(data):
            if packet.kind == mqtt_codec.PUBLISH:
                if packet.qos:
                    self.out += mqtt_codec.puback(packet.mid)
                outcome = self._take(packet, now_s, jitter) or outcome
            elif packet.kind == mqtt_codec.DISCONNECT or packet.reason >= mqtt_codec.FAILURE:
                raise BrokenPacketError(f"{self.name}: the broker refuses it (reason {packet.reason:#x})")
            elif packet.kind == mqtt_codec.SUBACK:
                self.ready = True
            elif packet.kind == mqtt_codec.PUBACK and packet.reason:
                self.unheard += 1
        return outcome

    def give_up(self, fault: str) -> Outcome | None:
        """Drop its question."""
        asking, self.asking = self.asking, None
        return None if asking is None else Outcome(asking.begun_s, 0, 0, asking.refused, fault)

    def _take(self, packet: mqtt_codec.Packet, now_s: float, jitter: Callable[[], float]) -> Outcome | None:
        try:
            message = decode("down", packet.topic.removeprefix(self._heard_at), packet.payload).message
        except ProtocolError as error:
            return self.give_up(f"unreadable: {error}")
        asking = self.asking
        if asking is None or isinstance(message, Accepted):
            return None
        if isinstance(message, Busy) and message.message_id == asking.question.query_id:
            self.put_offs += 1
            asking.refused += 1
            asking.again_s = now_s + message.retry_after_s * (1 + 0.5 * jitter())
        elif isinstance(message, Refusal):
            return self.give_up(f"refused: {message.code}")
        elif isinstance(message, Match) and message.query_id == asking.question.query_id and asking.samples is None:
            return self._matched(asking, message)
        elif isinstance(message, Chunk) and asking.blob is not None and message.blob == asking.blob.sha256:
            return self._chunk(asking, asking.blob, message)
        return None

    def _matched(self, asking: Asking, match: Match) -> Outcome | None:
        asking.samples, asking.blob = match.count, match.samples
        if match.samples is None:
            return self._done(asking)
        if match.data is not None:
            asking.data = match.data
            return self._whole(asking, match.samples)
        count = -(-match.samples.size_bytes // MAX_CHUNK_BYTES)
        asking.missing = set(range(count))
        asking.data = bytearray(match.samples.size_bytes)
        for begin in range(0, count, MAX_PULL_CHUNKS):
            chunks = tuple(range(begin, min(begin + MAX_PULL_CHUNKS, count)))
            self._say(Pull(match.samples.sha256, chunks, MAX_CHUNK_BYTES), self._next_id())
        return None

    def _chunk(self, asking: Asking, blob: BlobRef, chunk: Chunk) -> Outcome | None:
        begin = chunk.index * MAX_CHUNK_BYTES
        assert isinstance(asking.data, bytearray)
        asking.data[begin : begin + len(chunk.data)] = chunk.data
        asking.missing.discard(chunk.index)
        return None if asking.missing else self._whole(asking, blob)

    def _whole(self, asking: Asking, blob: BlobRef) -> Outcome | None:
        if hashlib.sha256(asking.data).hexdigest() != blob.sha256:
            return self.give_up("damaged: another digest")
        if self._decode and len(decode_batch(bytes(asking.data), self._schema)) != asking.samples:
            return self.give_up("damaged: another number of samples")
        return self._done(asking)

    def _done(self, asking: Asking) -> Outcome:
        self.asking = None
        return Outcome(asking.begun_s, asking.samples or 0, len(asking.data), asking.refused)

    def _put(self, question: Question) -> None:
        self.out += mqtt_codec.publish(self._asks_at, question.payload, self._next_mid())

    def _say(self, message: Message, message_id: str, *, retain: bool = False) -> None:
        payload = encode(message, message_id)
        self.out += mqtt_codec.publish(self._up(message.kind), payload, self._next_mid(), retain=retain)

    def _up(self, kind: str) -> str:
        return topics.up(self._fleet, self.name, kind)

    def _next_mid(self) -> int:
        self._mid = self._mid % 65_535 + 1
        return self._mid

    def _next_id(self) -> str:
        self._said += 1
        return f"{self.name}-{self._said}"
