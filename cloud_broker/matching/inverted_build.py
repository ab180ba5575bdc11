"""Making an inverted file: its lists and levels learnt, filled in the order of time, and looked through far enough."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.files import make_private_directory
from cloud_broker.matching import packed_lists, second_halves
from cloud_broker.matching.codebooks import Codebooks, Floats
from cloud_broker.matching.inverted_current import CURRENT, ENDINGS, Current, read_current
from cloud_broker.matching.inverted_looks import enough
from cloud_broker.matching.inverted_search import Opened
from cloud_broker.matching.packed_lists import BITS, Codes
from cloud_broker.matching.vector_index import Rows, Vectors
from hardware.durable import write_private

_faiss: Any = faiss  # its stubs tell of the C++ interface
_ROWS_A_LIST = 1200  # in a large file; in a small one fewer
_SECONDS = 2  # centres: who saw it tells more apart than what was seen
_TRAINED_ON = 200_000  # samples, or 64 for each first centre if that is more
_ROWS_A_STEP = 250_000

OnProgress = Callable[[int, int], None]


@dataclass
class _Content:
    """What a file is made of, by id, which is the place in the order of time.

    Attributes:
        books: What they are lists of.
        levels: Of the codes, float32 [d * 16].
        order: int64 [n], each id's row.
        lists: int32 [n], the list of each; -1 for none.
        codes: uint8 [n, bytes].
    """

    books: Codebooks
    levels: Floats
    order: Rows
    lists: NDArray[np.int32]
    codes: Codes


def build(
    folder: Path,
    vectors: Vectors,
    time_s: NDArray[np.int64],
    recall: float,
    on_progress: OnProgress | None = None,
) -> Current:
    """Make an inverted file of all rows, or one that has what the current one lacks; `publish` takes it into use.

    Args:
        folder: Where.
        vectors: float32 [n, d]; rows of zeros are nobody's.
        time_s: int64 [n].
        recall: What it has to find of the nearest.
        on_progress: Told rows done and rows in all.

    Raises:
        StorageError: If the disk fails.
    """
    make_private_directory(folder)
    before = _grown_from(folder, len(vectors))
    content = _trained(vectors) if before is None else _content(before)
    _add(content, vectors, time_s, on_progress)
    current = Current(f"{len(vectors)}-{os.getpid()}", len(vectors), ((1, 1.0, 1.0),), 0.0)
    _write(folder / current.file, content)
    second_halves.write(folder / current.file, content.books, vectors)
    looks, reached = enough(Opened(folder, current), vectors, recall)
    return Current(current.file, current.rows, looks, reached)


def publish(folder: Path, built: Current, dead: NDArray[np.bool_]) -> None:
    """Take a file into use; to be called with the pool's lock held.

    Args:
        folder: Where it is.
        built: What `build` returned.
        dead: bool [n], rows that were erased since it began.
    """
    write_private(folder / CURRENT, json.dumps(asdict(built)).encode())
    erase_dead(folder, dead)
    mine = {CURRENT, *(f"{built.file}.{ending}" for ending in ENDINGS)}
    for path in folder.iterdir():
        if path.name not in mine:
            path.unlink(missing_ok=True)  # who has it mapped still has it


def erase_dead(folder: Path, dead: NDArray[np.bool_]) -> None:
    """See that rows marked in ``dead`` are zeros in the current file: a crash may have come between."""
    Opened(folder).erase_dead(dead)


def lists_for(rows: int) -> tuple[int, int]:
    """How many centres either half has for so many rows."""
    bits = round(max(np.log2(max(rows, 1)) / 2, np.log2(max(rows, 1) / _ROWS_A_LIST)))
    return max(2**bits // _SECONDS, 1), _SECONDS


def _grown_from(folder: Path, rows: int) -> Opened | None:
    """The current file; None if its lists have become too few."""
    if read_current(folder) is None:
        return None
    before = Opened(folder)
    return before if np.prod(lists_for(rows)) <= 2 * len(before.books) else None


def _content(opened: Opened) -> _Content:
    """What a file has, less what was erased."""
    rows = opened.current.rows
    lists = np.full(rows, -1, np.int32)
    codes = np.zeros((rows, (opened.books.width + 1) // 2), np.uint8)
    for number, ids, some in opened.lists.contents():
        lists[ids], codes[ids] = number, some
    return _Content(opened.books, opened.levels, np.array(opened.order), lists, codes)


def _trained(vectors: Vectors) -> _Content:
    """Lists and levels learnt from some of the vectors, and nothing in them."""
    firsts, seconds = lists_for(len(vectors))
    chosen = np.linspace(0, len(vectors) - 1, min(len(vectors), max(_TRAINED_ON, 64 * firsts))).astype(np.int64)
    some = vectors[chosen]
    some = np.ascontiguousarray(some[some.any(axis=1)]) if some.any() else some
    books = Codebooks.learnt(some, firsts, seconds)
    levels = _faiss.ProductQuantizer(books.width, books.width, BITS)
    levels.cp.min_points_per_centroid = 1
    apart = np.ascontiguousarray(books.nearest(some[:: max(len(some) // _TRAINED_ON, 1)])[1])
    threads = _faiss.omp_get_max_threads()
    _faiss.omp_set_num_threads(1)  # one dimension after the other is too little for several to share
    levels.train(apart)
    _faiss.omp_set_num_threads(threads)
    return _Content(
        books,
        _faiss.vector_to_array(levels.centroids),
        np.zeros(0, np.int64),
        np.zeros(0, np.int32),
        np.zeros((0, levels.code_size), np.uint8),
    )


def _add(content: _Content, vectors: Vectors, time_s: NDArray[np.int64], on_progress: OnProgress | None) -> None:
    """Put the rows that came since into lists, those of zeros into none."""
    had = len(content.order)
    # Of samples that came later those of earlier events stand behind: they are found, only not left out by a stretch.
    order = had + np.argsort(time_s[had:], kind="stable")
    content.order = np.concatenate([content.order, order])
    lists, codes = [content.lists], [content.codes]
    for begin, some in _steps(order, vectors):
        mine, apart = content.books.nearest(some)
        live = some.any(axis=1)
        content.books.note(mine[live], apart[live])
        lists.append(np.where(live, mine, -1).astype(np.int32))
        codes.append(_coder(content).compute_codes(np.ascontiguousarray(apart)))
        if on_progress is not None:
            on_progress(had + min(begin + _ROWS_A_STEP, len(order)), len(content.order))
    content.lists, content.codes = np.concatenate(lists), np.concatenate(codes)


def _steps(order: Rows, vectors: Vectors) -> Iterator[tuple[int, Vectors]]:
    for begin in range(0, len(order), _ROWS_A_STEP):
        yield begin, np.ascontiguousarray(vectors[order[begin : begin + _ROWS_A_STEP]])


def _coder(content: _Content) -> Any:
    width = content.books.width
    coder = _faiss.ProductQuantizer(width, width, BITS)
    _faiss.copy_array_to_vector(content.levels, coder.centroids)
    return coder


def _write(path: Path, content: _Content) -> None:
    lists = path.with_name(f"{path.name}.lists")
    lists.unlink(missing_ok=True)
    sizes = packed_lists.write(lists, content.lists, content.codes, len(content.books))
    parts = {"levels": content.levels, "sizes": sizes, **content.books.arrays()}
    try:
        np.savez(f"{path}.lists.npz", **parts)  # type: ignore[arg-type]
        np.save(f"{path}.order.npy", content.order.astype(np.int64), allow_pickle=False)
    except OSError as error:
        raise StorageError(f"cannot write an inverted file at {path}: {error.strerror}") from error
