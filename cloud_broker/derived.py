"""What is made of the pool's rows by each model: vectors, and the inverted file over them. All of it can be made again.

{pool}/derived/{model}/vectors-{width}/    every row's vector, mapped, so that workers share them
{pool}/derived/{model}/lists/              the inverted file over them, once the pool is large
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cloud_broker.files import make_private_directory
from cloud_broker.inverted_file import Opened, read_current
from cloud_broker.shared_columns import SharedColumns
from cloud_broker.vector_index import Rows, Vectors

_FOLDER, _VECTORS, _LISTS = "derived", "vectors-", "lists"
_VECTOR = "vector"


class Derived:
    """What one model makes of a pool's rows; to be opened with the pool's lock held.

    Attributes:
        lists: Where the inverted file is.
    """

    def __init__(self, pool: Path, model_sha256: str, width: int) -> None:
        """Open what is under a pool's folder, or create it, for vectors of ``width``."""
        folder = make_private_directory(pool / _FOLDER / model_sha256[:16])
        self._columns = _columns(folder, width)
        self.lists = folder / _LISTS

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


def _columns(folder: Path, width: int) -> SharedColumns:
    return SharedColumns(folder / f"{_VECTORS}{width}", {_VECTOR: ("<f4", (width,))})
