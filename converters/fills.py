"""Initial values that are one number throughout, written as that number instead of as an array.

The converter stores every variable's initial value as a constant. For accumulators of an optimiser and for tables whose
rows are set later these are arrays of zeros, which may be most of the file. Here they become FILL operations, run once
when the file is opened.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

MIN_BYTES = 512  # below, the operation takes as much room as the array
_IDENTIFIER = b"TFL3"
_BUFFER_ALIGNMENT = 16  # of the schema; runtimes map the file and read buffers in place


def with_fills(content: bytes) -> bytes:
    """The file, its uniform initial values computed; unchanged where there is none worth it."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    replaced = [_replace(model, graph, tensor) for graph in _initialisers(model) for tensor in _uniform(model, graph)]
    if not replaced:
        return content
    for buffer in set(replaced) - _buffers_in_use(model):
        model.buffers[buffer].data = None
    builder = _AlignedBuilder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    def CreateNumpyVector(self, x: NDArray[Any]) -> Any:  # noqa: N802 - overrides
        if x.dtype != np.uint8:
            return super().CreateNumpyVector(x)
        self.StartVector(1, x.size, _BUFFER_ALIGNMENT)
        self.head -= x.size
        self.Bytes[self.head : self.head + x.size] = x.tobytes()
        return self.EndVector()


def _initialisers(model: Any) -> list[Any]:
    """Subgraphs that run once, when the file is opened."""
    called = {
        op.builtinOptions.initSubgraphIndex
        for graph in model.subgraphs
        for op in graph.operators or ()
        if op.builtinOptionsType == schema.BuiltinOptions.CallOnceOptions
    }
    return [model.subgraphs[index] for index in sorted(called)]


def _uniform(model: Any, graph: Any) -> list[int]:
    """Indices of the float constants of a subgraph that hold one number, and many times."""
    found = []
    for index, tensor in enumerate(graph.tensors):
        data = model.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.FLOAT32 and data is not None and len(data) >= MIN_BYTES:
            values = np.frombuffer(bytes(data), "<f4")
            if (values == values[0]).all():
                found.append(index)
    return found


def _replace(model: Any, graph: Any, index: int) -> int:
    """Compute tensor ``index`` by a FILL that comes first; the buffer that it had."""
    tensor = graph.tensors[index]
    buffer = int(tensor.buffer)
    first = np.frombuffer(bytes(model.buffers[buffer].data[:4]), "<f4").reshape(())
    shape = np.asarray(tensor.shape, "<i4")
    inputs = [
        _constant(model, graph, shape, f"fill_shape_{index}"),
        _constant(model, graph, first, f"fill_value_{index}"),
    ]
    tensor.buffer = _new_buffer(model, None)
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = _fill_code(model), inputs, [index]
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.FillOptions, schema.FillOptionsT()
    graph.operators.insert(0, op)
    return buffer


def _constant(model: Any, graph: Any, value: NDArray[Any], name: str) -> int:
    tensor = schema.TensorT()
    kinds = {"f": schema.TensorType.FLOAT32, "i": schema.TensorType.INT32}
    tensor.name, tensor.type, tensor.shape = name.encode(), kinds[value.dtype.kind], list(value.shape)
    tensor.buffer = _new_buffer(model, np.frombuffer(value.tobytes(), np.uint8))
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _new_buffer(model: Any, data: NDArray[np.uint8] | None) -> int:
    buffer = schema.BufferT()
    buffer.data = data
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _fill_code(model: Any) -> int:
    fill = schema.BuiltinOperator.FILL
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == fill:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = fill
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _buffers_in_use(model: Any) -> set[int]:
    return {int(tensor.buffer) for graph in model.subgraphs for tensor in graph.tensors}
