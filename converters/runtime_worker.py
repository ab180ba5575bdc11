"""A TFLite runtime in a process of its own, where no TensorFlow is loaded.

In a process that has loaded TensorFlow, tflite-runtime's kernels resolve to TensorFlow's: whatever it then computes
proves nothing about a device. So files are run here, and asked about over a pair of pipes. A file that crashes the
runtime ends this process, not the conversion.

Each message is its length as four bytes, little-endian, and a msgpack map; arrays are maps of dtype, shape and bytes.
"""

from __future__ import annotations

import importlib
import os
import struct
import sys
from typing import IO, Any

import msgpack
import numpy as np

_LENGTH = struct.Struct("<I")


def send(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write one message."""
    payload = msgpack.packb(message, default=_plain)
    stream.write(_LENGTH.pack(len(payload)) + payload)
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read one message; None where the other side has gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    payload = stream.read(length)
    if len(payload) < length:
        return None
    message: dict[str, Any] = msgpack.unpackb(payload, object_hook=_array, strict_map_key=False)
    return message


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": array.tobytes()}


def _array(values: dict[Any, Any]) -> Any:
    if values.keys() == {"dtype", "shape", "bytes"}:
        return np.frombuffer(values["bytes"], values["dtype"]).reshape(values["shape"]).copy()
    return values


def serve(module: str) -> None:
    """Answer until the other side closes its pipe.

    Args:
        module: The runtime's module that has an ``Interpreter``.
    """
    # The runtimes print to standard output now and then; the pipe is for answers alone.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    interpreter_class = importlib.import_module(module).Interpreter
    opened: dict[int, Any] = {}
    while (request := receive(sys.stdin.buffer)) is not None:
        try:
            answer = {"value": _act(request, opened, interpreter_class)}
        except (RuntimeError, ValueError, KeyError) as error:
            answer = {"error": str(error)}
        send(answers, answer)


def _act(request: dict[str, Any], opened: dict[int, Any], interpreter_class: Any) -> Any:
    for forgotten in request["forget"]:
        opened.pop(forgotten, None)
    handle = request["handle"]
    if request["do"] == "open":
        opened[handle] = interpreter_class(model_path=request["path"], num_threads=request["threads"])
        opened[handle].allocate_tensors()  # as on a device: tflite-runtime applies XNNPACK only then
        return opened[handle].get_signature_list()
    return opened[handle].get_signature_runner(request["signature"])(**request["inputs"])
