"""What a TFLite file holds: signatures, shapes, operations, sizes, hash; read without running it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tensorflow.lite.python import schema_py_generated as schema

from converters.compact import IDENTIFIER
from converters.errors import LoadError


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a signature; an axis of any size is None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class SignatureInfo:
    """One signature of a file.

    Attributes:
        name: How it is called.
        inputs: By the names it takes.
        outputs: By the names it gives.
        ops: How often its graph has each operation.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: dict[str, int]


@dataclass(frozen=True)
class FileInfo:
    """A TFLite file.

    Attributes:
        path: Where it lies.
        sha256: Hexadecimal digest of its bytes.
        size_bytes: Its length.
        constant_bytes: What of it are weights and other constants.
        signatures: In the file's order.
        foreign_ops: Operations that are not builtin (Flex or custom): a device's runtime cannot run them.
    """

    path: Path
    sha256: str
    size_bytes: int
    constant_bytes: int
    signatures: tuple[SignatureInfo, ...]
    foreign_ops: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "path": str(self.path)}


def inspect_file(path: Path) -> FileInfo:
    """Read a TFLite file.

    Raises:
        LoadError: If it is not there, or not a TFLite file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror or error}") from error
    model = _parse(content, str(path))
    return FileInfo(
        path,
        hashlib.sha256(content).hexdigest(),
        len(content),
        sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None),
        tuple(_signature(model, definition) for definition in model.signatureDefs or ()),
        foreign_ops(content),
    )


def foreign_ops(content: bytes) -> tuple[str, ...]:
    """Names of the operations of a valid file that are not builtin."""
    model = schema.Model.GetRootAs(content, 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    custom = schema.BuiltinOperator.CUSTOM
    return tuple(
        sorted(c.CustomCode().decode() for c in codes if custom in (c.BuiltinCode(), c.DeprecatedBuiltinCode()))
    )


def _parse(content: bytes, what: str) -> Any:
    if content[4:8] != IDENTIFIER:
        raise LoadError(f"{what}: not a TFLite file (no {IDENTIFIER.decode()} mark in its first bytes)")
    try:
        return schema.ModelT.InitFromPackedBuf(content, 0)
    except Exception as error:  # the generated reader follows offsets wherever damaged bytes lead it
        raise LoadError(f"{what}: a damaged TFLite file: {error}") from error


def _signature(model: Any, definition: Any) -> SignatureInfo:
    graph = model.subgraphs[definition.subgraphIndex]
    ops = Counter(_op_name(model.operatorCodes[op.opcodeIndex]) for op in graph.operators or ())
    return SignatureInfo(
        definition.signatureKey.decode(),
        tuple(_tensor(graph, entry) for entry in definition.inputs or ()),
        tuple(_tensor(graph, entry) for entry in definition.outputs or ()),
        dict(sorted(ops.items())),
    )


def _tensor(graph: Any, entry: Any) -> TensorInfo:
    tensor = graph.tensors[entry.tensorIndex]
    shape = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    sizes = () if shape is None else tuple(None if size < 0 else int(size) for size in shape)
    return TensorInfo(entry.name.decode(), sizes, _TYPES[tensor.type].lower())


def _op_name(code: Any) -> str:
    # Files of old converters have the code in a byte, newer ones in an int; the other field is then smaller.
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    return str(code.customCode.decode()) if builtin == schema.BuiltinOperator.CUSTOM else _OPS[builtin]


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_OPS, _TYPES = _names(schema.BuiltinOperator), _names(schema.TensorType)
