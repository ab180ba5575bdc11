"""Every decoder that reads what a peer sent, with good messages to start from and the errors that it may raise."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cloud_broker.errors import CertificateError
from cloud_broker.membership.signing import read_request
from edge.tunnel.keys import certificate_request, new_key
from profiling.errors import ProfilingError
from profiling.record import RoundRecord
from protocol import topics
from protocol.batch_codec import decode_batch, encode_batch, encode_plain
from protocol.columns import Codec, decode_column, encode_column
from protocol.enrolment import EnrolmentToken
from protocol.envelope import decode, encode
from protocol.errors import ProtocolError
from protocol.messages import MESSAGES, BlobRef, Message
from protocol.packing import pack, unpack
from protocol.patch import apply_patch, make_patch
from protocol.recipe import Recipe
from protocol.releases import pack_metadata, unpack_metadata
from protocol.rows import RowBlock, RowColumn, TableRows, decode_rows, encode_rows
from protocol.schema import FeatureSchema
from tests.edge.samples import SCHEMA, samples
from tests.profiling.samples import record

_SHA = hashlib.sha256(b"").hexdigest()
_TABLE = TableRows(_SHA, "item", 1000, 64, (RowColumn("item", 8),))


@dataclass(frozen=True)
class Target:
    """A decoder.

    Attributes:
        name: What it reads.
        seeds: Good messages.
        read: Decodes one.
        refusals: What it may raise; anything else is a fault.
        finish: Makes a mutated message's checksum right again, or what lies behind the check would never be reached.
    """

    name: str
    seeds: list[bytes]
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = (ProtocolError,)
    finish: Callable[[bytes], bytes] = bytes


def targets(examples: dict[type[Message], list[Message]]) -> list[Target]:
    """All of them; ``examples`` holds good messages of every class."""
    return [*_envelopes(examples), *_arrays(), *_values(), _requests()]


def _envelopes(examples: dict[type[Message], list[Message]]) -> list[Target]:
    found = []
    for (direction, kind), message in MESSAGES.items():
        seeds = [encode(one, f"m{number}") for number, one in enumerate(examples[message])]

        def read(payload: bytes, direction: topics.Direction = direction, kind: str = kind) -> object:
            return decode(direction, kind, payload)

        found.append(Target(f"{direction}/{kind}", seeds, read))
    return found


def _arrays() -> list[Target]:
    batches = [samples(count, seed=count) for count in (1, 30, 200)]
    plain = [encode_plain(batch, zstd=zstd) for batch in batches for zstd in (True, False)]
    compact = [encode_batch(batch, zstd=zstd) for batch in batches for zstd in (True, False)]
    ids = np.arange(3, 500, 7, dtype=np.int32)
    block = RowBlock(_TABLE.version, ids, np.outer(ids, np.ones(8)).astype(np.float32))
    array = np.arange(4000, dtype=np.int32) // 3
    packed = [encode_column(array, zstd=zstd) for zstd in (True, False)] + [(Codec.RAW, array.tobytes())]
    old, new = bytes(range(256)) * 40, bytes(range(256)) * 20 + bytes(range(255, -1, -1)) * 20
    ref = BlobRef(hashlib.sha256(new).hexdigest(), len(new))
    patches = [patch for patch in (make_patch(old, new),) if patch is not None]  # none without zstd
    return [
        Target("plain batch", plain, lambda payload: decode_batch(payload, SCHEMA)),
        Target("compact batch", compact, lambda payload: decode_batch(payload, SCHEMA), finish=_with_crc),
        Target("rows", [encode_rows(block)], lambda payload: decode_rows(payload, _TABLE, max_rows=1000)),
        Target(
            "column",
            [bytes([codec]) + data for codec, data in packed],
            lambda payload: decode_column(payload[0] if payload else 0, payload[1:], "int32", array.shape),
        ),
        *(Target("patch", [patch], lambda payload: apply_patch(old, payload, ref)) for patch in patches),
    ]


def _with_crc(payload: bytes) -> bytes:
    """A compact batch with the checksum of its body."""
    try:
        magic, size = struct.unpack_from("<4sI", payload)
        header = unpack(payload[8 : 8 + size], "header")
    except (struct.error, ProtocolError):
        return payload
    packed = pack({**header, "crc32": zlib.crc32(payload[8 + size :])})
    return struct.pack("<4sI", magic, len(packed)) + packed + payload[8 + size :]


def _values() -> list[Target]:
    token = EnrolmentToken("home", "pi-1", "localhost", 8883, 8884, _SHA, bytes(32)).to_text()
    topic = topics.up("home", "pi-1", "hello")
    records = [pack(record().to_dict()), pack(record(energy=False).to_dict())]
    metadata = pack_metadata({"1.root.json": b"{}", "timestamp.json": b"{}" * 40, "2.targets.json": bytes(200)})
    return [
        Target("release metadata", [metadata], unpack_metadata),
        Target("msgpack", records, lambda payload: unpack(payload, "map")),
        Target("schema", [pack(SCHEMA.to_dict())], lambda payload: FeatureSchema.from_dict(unpack(payload, "map"))),
        Target("recipe", [pack(Recipe().to_dict())], lambda payload: Recipe.from_dict(unpack(payload, "map"))),
        Target(
            "round record",
            records,
            lambda payload: RoundRecord.from_dict(unpack(payload, "map")),
            (ProtocolError, ProfilingError),
        ),
        Target("topic", [topic.encode()], lambda payload: topics.parse(payload.decode("utf-8", "replace"))),
        Target("token", [token.encode()], lambda payload: EnrolmentToken.from_text(payload.decode("utf-8", "replace"))),
    ]


def _requests() -> Target:
    seeds = [certificate_request(new_key(), "pi-1") for _ in range(2)]
    return Target("certificate request", seeds, lambda payload: read_request(payload, "pi-1"), (CertificateError,))
