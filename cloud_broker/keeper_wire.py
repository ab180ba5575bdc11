"""What the keeper of the pool and the workers of one machine say to each other, over a Unix socket of theirs.

A frame is its length and a map in msgpack; arrays travel as the bytes of their columns. Both ends are the same program
and run as the same user, so bounds are against mistakes, not against a peer.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgpack
import numpy as np

from cloud_broker import errors as cloud_errors
from cloud_broker.errors import StorageError, UnavailableError
from protocol import errors as protocol_errors
from protocol.samples import SampleBatch, empty_batch
from protocol.schema import FeatureSchema

SOCKET = "keeper.sock"
MAX_FRAME_BYTES = 1 << 30
_LENGTH = struct.Struct("<I")

Frame = dict[str, Any]


def send_frame(connection: socket.socket, frame: Frame) -> None:
    """Write a frame."""
    payload = msgpack.packb(frame, use_bin_type=True)
    connection.sendall(_LENGTH.pack(len(payload)) + payload)


def read_frame(connection: socket.socket) -> Frame | None:
    """Read a frame; None where the other end is gone.

    Raises:
        StorageError: If it is no frame.
    """
    head = _read(connection, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise StorageError(f"the keeper's socket: a frame of {length} bytes; does another program use it?")
    payload = _read(connection, length)
    if payload is None:
        return None
    values = msgpack.unpackb(payload, raw=False)
    if not isinstance(values, dict):
        raise StorageError("the keeper's socket: a frame that is no map; does another program use it?")
    return values


def batch_frame(batch: SampleBatch) -> Frame:
    """A batch, as its columns."""
    return {name: column.tobytes() for name, column in batch.columns()} | {"samples": len(batch)}


def batch_of(frame: Frame, schema: FeatureSchema) -> SampleBatch:
    """Inverse of `batch_frame`."""
    columns = {
        name: np.frombuffer(frame[name], column.dtype).reshape(column.shape)
        for name, column in empty_batch(schema, frame["samples"]).columns()
    }
    label, time_s = columns.pop("label"), columns.pop("time_s")
    return SampleBatch(schema, columns, label, time_s)


def error_frame(error: Exception) -> Frame:
    """An error that the keeper met, for the worker to raise."""
    return {"error": type(error).__name__, "detail": str(error)}


def error_of(frame: Frame) -> Exception:
    """Inverse of `error_frame`: of the same class where it is the contract's or the cloud's own."""
    name, detail = frame["error"], frame["detail"]
    cls = getattr(protocol_errors, name, None) or getattr(cloud_errors, name, None)
    if not isinstance(cls, type) or not issubclass(cls, Exception):
        return StorageError(f"the keeper failed: {name}: {detail}")
    error: Exception = cls.__new__(cls, detail)  # whatever else its constructor wants is told in the text
    error.args = (detail,)
    return error


def unavailable(error: OSError) -> UnavailableError:
    """What a worker raises while there is no keeper."""
    return UnavailableError(f"the keeper of the pool does not answer ({error.strerror or error}); it is being started")


def _read(connection: socket.socket, count: int) -> bytearray | None:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        received = connection.recv_into(view)
        if received == 0:
            return None
        view = view[received:]
    return data
