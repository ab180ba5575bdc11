"""What is sent to devices in answer: messages with their addresses and ids, and refusals of what cannot be done."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cloud_broker.errors import BlobCorruptError, UnknownBlobError, UnknownModelError
from protocol import envelope, topics
from protocol.errors import MalformedMessageError, OversizeError, ProtocolError, SchemaMismatchError
from protocol.messages import Chunk, Message, RefusalCode, Release, Task
from protocol.packing import unpack

UNKNOWN_ID = "unknown"


@dataclass(frozen=True)
class Outgoing:
    """A message to be sent.

    Attributes:
        device: Whom it is for; None for a chunk that the fleet shares.
        message: What is said.
        message_id: By which its effects happen once.
        retain: Whether the broker is to keep it for whenever the device comes.
    """

    device: str | None
    message: Message
    message_id: str
    retain: bool = False


def task_for(device: str, task: Task) -> Outgoing:
    """A task, as it is sent."""
    return Outgoing(device, task, f"task-{task.version}", retain=True)


def release_for(device: str, release: Release) -> Outgoing:
    """An offer of a release, as it is sent."""
    return Outgoing(device, release, f"release-{release.offer}", retain=True)


def shared_outgoing(chunk: Chunk) -> Outgoing:
    """A chunk of a blob that the fleet shares, as it is sent."""
    return Outgoing(None, chunk, str(chunk.index), retain=True)


def address_of(topic: str) -> topics.Topic | None:
    """The parts of a topic that a device speaks on; None for any other."""
    try:
        address = topics.parse(topic)
    except MalformedMessageError:
        return None
    return address if address.direction == "up" else None


def outgoing(device: str, answer: Message | Outgoing, message_id: str, number: int) -> Outgoing:
    """An answer to a message of a device, with an id of its own."""
    if isinstance(answer, Outgoing):
        return answer
    if isinstance(answer, Task):
        return task_for(device, answer)
    if isinstance(answer, Release):
        return release_for(device, answer)
    # Derived, not drawn: a message that comes twice is answered by messages of the same ids.
    digest = hashlib.sha256(f"{device}/{message_id}/{number}".encode()).hexdigest()
    return Outgoing(device, answer, digest[:32])


def code_of(error: Exception) -> RefusalCode:
    """What a device is told of an error."""
    codes: dict[type[Exception], RefusalCode] = {
        BlobCorruptError: RefusalCode.INTERNAL,
        SchemaMismatchError: RefusalCode.SCHEMA,
        OversizeError: RefusalCode.OVERSIZE,
        UnknownBlobError: RefusalCode.UNKNOWN_BLOB,
        UnknownModelError: RefusalCode.UNKNOWN_MODEL,
        ProtocolError: RefusalCode.MALFORMED,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), RefusalCode.INTERNAL)


def check_id(text: str, what: str) -> None:
    """See that a text can be an id.

    Raises:
        MalformedMessageError: If it cannot.
    """
    if not 1 <= len(text) <= envelope.MAX_MESSAGE_ID_LENGTH:
        raise MalformedMessageError(f"{what}: 1 to {envelope.MAX_MESSAGE_ID_LENGTH} characters are required")
    if "\0" in text:  # PostgreSQL holds no such text, so a cloud with one in SQLite could not move there
        raise MalformedMessageError(f"{what}: holds a NUL character")


def claimed_id(payload: bytes) -> str:
    """The id that a message we cannot read gives itself, so that its sender knows which one was refused."""
    try:
        claimed = unpack(payload[: topics.MAX_MESSAGE_BYTES], "message").get("id")
    except ProtocolError:
        return UNKNOWN_ID
    fits = isinstance(claimed, str) and 1 <= len(claimed) <= envelope.MAX_MESSAGE_ID_LENGTH
    return str(claimed) if fits else UNKNOWN_ID
