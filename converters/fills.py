"""Initial values that are one number throughout, computed when a file is opened instead of stored in it.

The converter stores every variable's initial value as a constant. For accumulators of an optimiser and for tables whose
rows are set later these are arrays of zeros, which may be most of the file. Here they become FILL operations of the
subgraph that runs once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

MIN_BYTES = 512  # below, the operation takes as much room as the array


def fill_uniform(model: Any) -> None:
    """Change a file's object tree so that uniform initial values are computed; their old buffers are not used then."""
    for graph in _initialisers(model):
        for index in _uniform(model, graph):
            _compute(model, graph, index)


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


def _compute(model: Any, graph: Any, index: int) -> None:
    """Let a FILL, which comes first, give tensor ``index``."""
    tensor = graph.tensors[index]
    first = np.frombuffer(bytes(model.buffers[tensor.buffer].data[:4]), "<f4").reshape(())
    shape = np.asarray(tensor.shape, "<i4")
    tensor.buffer = 0  # the empty one
    op = schema.OperatorT()
    op.opcodeIndex, op.outputs = _fill_code(model), [index]
    op.inputs = [_constant(model, graph, shape), _constant(model, graph, first)]
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.FillOptions, schema.FillOptionsT()
    graph.operators.insert(0, op)


def _constant(model: Any, graph: Any, value: NDArray[Any]) -> int:
    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(value.tobytes(), np.uint8)
    model.buffers.append(buffer)
    kinds = {"f": schema.TensorType.FLOAT32, "i": schema.TensorType.INT32}
    tensor.type, tensor.shape, tensor.buffer = kinds[value.dtype.kind], list(value.shape), len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


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
