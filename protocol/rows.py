"""Rows of a table that is too large for a model's file: what they are, and their bytes.

``magic | header length, u32 little-endian | header, msgpack | ids | values``. The header is
``{"version": sha256, "rows": n, "columns": [[codec, bytes], [codec, bytes]]}``. The reader knows the table, so a header
can ask for no more memory than the table's own row times n.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.columns import decode_column, encode_column
from protocol.digests import check_sha256
from protocol.errors import MalformedMessageError, OversizeError, SchemaMismatchError
from protocol.packing import pack, unpack
from protocol.topics import MAX_BLOB_BYTES

MAGIC = b"CRB1"  # CoDA row block, layout 1
MAX_SLOTS = 8192
ROWS_PER_SHARD = 16  # rows that are asked for together, so that the cloud learns a neighbourhood and not an item
MAX_SHARDS = 256  # of one request
_MAX_COLUMNS = 16
_MAX_WIDTH = 4096
_MAX_VOCABULARY = 1 << 31
_PREFIX = struct.Struct("<4sI")
_MAX_HEADER_BYTES = 512


@dataclass(frozen=True)
class RowColumn:
    """A part of a row: one row of the model's weight of that name."""

    weight: str
    width: int


@dataclass(frozen=True)
class TableRows:
    """A table whose rows travel apart from the model's file.

    Attributes:
        version: SHA-256 over all rows and the file's own digest: rows of another version are another model's.
        table: Its name in the feature schema.
        vocabulary: Rows of the whole table.
        slots: Rows that the file has room for; slot 0 is kept for id 0.
        columns: What a row joins, in order.
    """

    version: str
    table: str
    vocabulary: int
    slots: int
    columns: tuple[RowColumn, ...]

    def __post_init__(self) -> None:
        check_sha256(self.version, "rows: version")
        if not 2 <= self.slots <= MAX_SLOTS or not 2 <= self.vocabulary <= _MAX_VOCABULARY:
            raise MalformedMessageError(
                f"rows of {self.table!r}: {self.slots} slots for {self.vocabulary} ids; 2 to {MAX_SLOTS} slots can be"
            )
        names = [column.weight for column in self.columns]
        if not 1 <= len(names) <= _MAX_COLUMNS or len(set(names)) != len(names):
            raise MalformedMessageError(f"rows of {self.table!r}: 1 to {_MAX_COLUMNS} distinct columns, got {names}")
        if min(column.width for column in self.columns) < 1 or self.width > _MAX_WIDTH:
            raise MalformedMessageError(f"rows of {self.table!r}: widths are positive and at most {_MAX_WIDTH} in all")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TableRows:
        """Inverse of `to_dict`.

        Raises:
            MalformedMessageError: If a field is missing or does not fit.
        """
        try:
            return cls(**{**values, "columns": tuple(RowColumn(**column) for column in values["columns"])})
        except (KeyError, TypeError) as error:
            raise MalformedMessageError(f"rows: {error}") from error

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return sum(column.width for column in self.columns)

    @property
    def shards(self) -> int:
        """Shards of the whole table."""
        return -(-self.vocabulary // ROWS_PER_SHARD)


@dataclass(frozen=True)
class RowTable:
    """A whole table.

    Attributes:
        description: What its rows are, and of which version.
        values: float32 [vocabulary, width].
    """

    description: TableRows
    values: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class RowBlock:
    """Some rows of one version.

    Attributes:
        version: As in `TableRows`.
        ids: int32 [n], ascending.
        values: float32 [n, width].
    """

    version: str
    ids: NDArray[np.int32] = field(repr=False)
    values: NDArray[np.float32] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)


def rows_version(values: NDArray[np.float32], model_sha256: str) -> str:
    """The version of all rows of a table, float32 [vocabulary, width], with the file of that digest."""
    digest = hashlib.sha256(np.ascontiguousarray(values, "<f4").data)
    digest.update(model_sha256.encode())
    return digest.hexdigest()


def encode_rows(block: RowBlock, *, zstd: bool = True) -> bytes:
    """The block's bytes. ``zstd`` says whether their reader has zstd.

    Raises:
        OversizeError: If decoded they take more than `MAX_BLOB_BYTES`.
    """
    _check_size(len(block), block.values.shape[1], len(block))
    columns = [encode_column(array, zstd=zstd) for array in (block.ids, block.values)]
    sizes = [[int(codec), len(data)] for codec, data in columns]
    header = pack({"version": block.version, "rows": len(block), "columns": sizes})
    return b"".join([_PREFIX.pack(MAGIC, len(header)), header, *(data for _, data in columns)])


def decode_rows(payload: bytes | memoryview, table: TableRows, *, max_rows: int) -> RowBlock:
    """Read rows of ``table``.

    Raises:
        SchemaMismatchError: If they are of another version, and so of another model.
        OversizeError: If there are more than ``max_rows``, or decoded they take more than `MAX_BLOB_BYTES`.
        MalformedMessageError: If the payload is anything else than a whole block, ids are not ascending within the
            table, or a value is not finite.
        UnsupportedCodecError: If it needs zstd and that is not installed here.
    """
    header, body = _split(memoryview(payload))
    version, rows, sizes = header.get("version"), header.get("rows"), header.get("columns")
    if version != table.version:
        raise SchemaMismatchError(f"rows of version {str(version)[:12]!r}, the model's are {table.version[:12]!r}")
    if type(rows) is not int or rows < 0:
        raise MalformedMessageError(f"rows: {str(rows)[:40]!r} is not a number of rows")
    _check_size(rows, table.width, max_rows)
    (ids_codec, ids_bytes), (values_codec, values_bytes) = _sizes(sizes, len(body))
    ids = decode_column(ids_codec, body[:ids_bytes], "int32", (rows,))
    values = decode_column(values_codec, body[ids_bytes : ids_bytes + values_bytes], "float32", (rows, table.width))
    if rows and not (ids[0] >= 0 and ids[-1] < table.vocabulary and (np.diff(ids) > 0).all()):
        raise MalformedMessageError(f"rows: ids are not ascending within the {table.vocabulary} of {table.table}")
    if not np.isfinite(values).all():
        raise MalformedMessageError("rows: a value is not finite")
    return RowBlock(table.version, ids, values)


def shards_of(ids: NDArray[np.int32]) -> NDArray[np.int64]:
    """The shards in which these ids lie, ascending."""
    shards: NDArray[np.int64] = np.unique(ids.astype(np.int64) // ROWS_PER_SHARD)
    return shards


def _split(payload: memoryview) -> tuple[dict[str, object], memoryview]:
    if len(payload) < _PREFIX.size:
        raise MalformedMessageError(f"rows: {len(payload)} bytes are too few")
    magic, header_bytes = _PREFIX.unpack_from(payload)
    body_at = _PREFIX.size + header_bytes
    if magic != MAGIC or header_bytes > _MAX_HEADER_BYTES or body_at > len(payload):
        raise MalformedMessageError(f"rows: not a row block (begins with {magic!r})")
    return unpack(payload[_PREFIX.size : body_at], "row header"), payload[body_at:]


def _sizes(sizes: object, body_bytes: int) -> list[tuple[int, int]]:
    pairs = [tuple(pair) for pair in sizes if isinstance(pair, list)] if isinstance(sizes, list) else []
    whole = all(len(pair) == 2 and all(type(number) is int and number >= 0 for number in pair) for pair in pairs)
    if not whole or len(pairs) != 2 or sum(size for _, size in pairs) != body_bytes:
        raise MalformedMessageError(f"rows: the header does not describe two columns in {body_bytes} bytes")
    return pairs


def _check_size(rows: int, width: int, max_rows: int) -> None:
    row_bytes = 4 * (width + 1)
    limit_bytes = min(max_rows * row_bytes, MAX_BLOB_BYTES)
    if rows * row_bytes > limit_bytes:
        raise OversizeError(f"block of {rows} rows", rows * row_bytes, limit_bytes)
