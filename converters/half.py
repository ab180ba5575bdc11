"""Weights in 16 bits: each large constant of a file as float16, widened once when a runtime loads it.

TensorFlow Lite's own float16 mode narrows every constant, also the epsilon that keeps a division finite: 1e-12 becomes
0 there, and an empty history not a number.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from converters.compact import IDENTIFIER

_LEAST_NUMBERS = 1024  # as in TensorFlow Lite's dynamic-range mode
_FLOAT16_VERSION = 3  # the first of DEQUANTIZE that takes it


def halve(content: bytes) -> bytes:
    """A valid file again with its float32 constants of 1024 numbers or more as float16."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = _FLOAT16_VERSION
    model.operatorCodes.append(code)
    for graph in model.subgraphs:
        large = [i for i, tensor in enumerate(graph.tensors) if _is_large(model, tensor)]
        widening = [_widen(model, graph, index, len(model.operatorCodes) - 1) for index in large]
        graph.operators = widening + graph.operators
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _is_large(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and tensor.type == schema.TensorType.FLOAT32 and len(data) >= 4 * _LEAST_NUMBERS


def _widen(model: Any, graph: Any, index: int, opcode_index: int) -> Any:
    """Take the data from a tensor; the operation that fills it from a float16 copy of them."""
    wide, narrow = graph.tensors[index], schema.TensorT()
    numbers = np.frombuffer(model.buffers[wide.buffer].data.tobytes(), np.float32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(numbers.astype(np.float16).tobytes(), np.uint8)
    model.buffers.append(buffer)
    narrow.shape, narrow.type, narrow.buffer = wide.shape, schema.TensorType.FLOAT16, len(model.buffers) - 1
    narrow.hasRank = wide.hasRank
    graph.tensors.append(narrow)
    wide.buffer = 0
    operator = schema.OperatorT()
    operator.opcodeIndex = opcode_index
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [index]
    operator.builtinOptionsType, operator.builtinOptions = (
        schema.BuiltinOptions.DequantizeOptions,
        schema.DequantizeOptionsT(),
    )
    return operator
