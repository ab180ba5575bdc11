"""What is made of the pool's rows by each model: vectors, and the inverted file over them. All of it can be made again.

{pool}/derived/{model}/vectors-{width}/    every row's vector, mapped, so that workers share them
{pool}/derived/{model}/lists/              the inverted file over them, once the pool is large
{pool}/derived/{model}/ready               that all of it was made once, so that the model may be served
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cloud_broker.errors import StorageError
from cloud_broker.files import make_private_directory
from cloud_broker.matching.inverted_file import Opened, discard_older, read_current
from cloud_broker.matching.vector_index import Rows, Vectors
from cloud_broker.pool.shared_columns import ROWS_FILE, SharedColumns

_FOLDER, _VECTORS, _LISTS = "derived", "vectors-", "lists"
_READY = "ready"
_VECTOR = "vector"
_NAME_DIGITS = 16


class Derived:
    """What one model makes of a pool's rows; to be opened with the pool's lock held.

    Attributes:
        lists: Where the inverted file is.
    """

    def __init__(self, pool: Path, model_sha256: str, width: int) -> None:
        """Open what is under a pool's folder, or create it, for vectors of ``width``."""
        folder = make_private_directory(_folder(pool, model_sha256))
        self._columns = _columns(folder, width)
        self.lists = folder / _LISTS
        discard_older(self.lists)

    def __len__(self) -> int:
        return len(self._columns)

    def vectors(self) -> Vectors:
        """All rows' vectors as they are now, float32 [n, width]."""
        vectors: Vectors = self._columns.column(_VECTOR)
        return vectors

    def append(self, begin: int, vectors: Vectors) -> None:
        """Write the vectors of rows from ``begin`` on; the pool's lock is held."""
        self._columns.append(begin, {_VECTOR: vectors})

    def flush(self) -> None:
        """Bring all vectors to disk; the pool's lock is held."""
        self._columns.flush()


def erase_rows(pool: Path, rows: Rows) -> None:
    """Overwrite rows with zeros in whatever any model made of them; the pool's lock is held, on disk when it returns.

    Raises:
        StorageError: If the disk fails.
    """
    for folder in sorted((pool / _FOLDER).glob(f"*/{_VECTORS}*")):
        columns = _columns(folder.parent, int(folder.name.removeprefix(_VECTORS)))
        mine, vectors = rows[rows < len(columns)], columns.column(_VECTOR)
        if not len(mine):
            continue
        if read_current(folder.parent / _LISTS) is not None:
            Opened(folder.parent / _LISTS).erase(mine, vectors)
        vectors[mine] = np.float32(0)
        columns.flush_rows(int(mine.min()), int(mine.max()) + 1)


def is_ready(pool: Path, model_sha256: str) -> bool:
    """Whether a model may be served: what it makes of a pool was whole once, and grows with the pool since."""
    return (_folder(pool, model_sha256) / _READY).exists()


def mark_ready(pool: Path, model_sha256: str) -> None:
    """Have every process serve a model from now on.

    Raises:
        StorageError: If the disk fails.
    """
    try:
        (_folder(pool, model_sha256) / _READY).touch(0o600)
    except OSError as error:
        raise StorageError(f"cannot mark model {model_sha256[:12]} as ready: {error.strerror}") from error


def embedded_rows(pool: Path, model_sha256: str) -> int:
    """How many of a pool's rows have vectors of a model, as far as any process wrote them."""
    heads = sorted(_folder(pool, model_sha256).glob(f"{_VECTORS}*/{ROWS_FILE}"))
    return max((int(np.fromfile(head, np.int64, 1)[0]) for head in heads), default=0)


def others(pool: Path, models: Iterable[str]) -> list[str]:
    """Names of what models made of a pool that are not among ``models``: the first digits of their digests."""
    kept = {_folder(pool, model_sha256) for model_sha256 in models}
    return [folder.name for folder in sorted((pool / _FOLDER).glob("*")) if folder not in kept]


def remove(pool: Path, name: str) -> None:
    """Remove what a model made, by its name in `others`; who has it mapped keeps it until they let go."""
    shutil.rmtree(pool / _FOLDER / name, ignore_errors=True)


def collection_name(model_sha256: str) -> str:
    """Where a server of vectors has those of a model; the digest's first digits do."""
    return f"coda_{model_sha256[:_NAME_DIGITS]}"


def _folder(pool: Path, model_sha256: str) -> Path:
    return pool / _FOLDER / model_sha256[:_NAME_DIGITS]


def _columns(folder: Path, width: int) -> SharedColumns:
    return SharedColumns(folder / f"{_VECTORS}{width}", {_VECTOR: ("<f4", (width,))})
