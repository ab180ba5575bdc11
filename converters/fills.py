"""Values of variables that are one number throughout, computed by the file instead of stored in it.

The converter stores what a variable starts from, or is reset to, as a constant. For accumulators of an optimiser and
for tables whose rows are set later these are arrays of zeros, which may be most of the file. Here they become FILL
operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

MIN_BYTES = 512  # below, the operation takes as much room as the array


def fill_uniform(model: Any) -> None:
    """Change a file's object tree so that uniform values of variables are computed; their buffers are not used then."""
    for graph in model.subgraphs:
        for index in _assigned(model, graph):
            if _is_uniform(model, graph.tensors[index]):
                _compute(model, graph, index)


def _assigned(model: Any, graph: Any) -> list[int]:
    """Indices of the tensors of a subgraph that are assigned to variables and used for nothing else."""
    uses: dict[int, set[int]] = {}
    for op in graph.operators or ():
        for index in op.inputs:
            uses.setdefault(int(index), set()).add(_builtin(model.operatorCodes[op.opcodeIndex]))
    return sorted(index for index, ops in uses.items() if ops == {schema.BuiltinOperator.ASSIGN_VARIABLE})


def _is_uniform(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) < MIN_BYTES:
        return False
    values = np.frombuffer(bytes(data), "<f4")
    return bool((values == values[0]).all())


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
        if _builtin(code) == fill:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = fill
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _builtin(code: Any) -> int:
    # Files of old converters have the code in a byte, newer ones in an int; the other field is then smaller.
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))
