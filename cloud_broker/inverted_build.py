"""Making an inverted file: trained, filled in the order of time, and probed as far as it takes to find enough."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.files import make_private_directory
from cloud_broker.inverted_file import CURRENT, Current, Opened, probing, read_current
from cloud_broker.vector_index import Rows, Vectors
from hardware.durable import write_private

_faiss: Any = faiss  # its stubs tell of the C++ interface
_TRAINED_ON = 64  # samples for each list
_ROWS_A_STEP = 250_000
_JUDGED_BY = 48  # queries of each kind
_JUDGED_NEAREST = (100, 300, 1_000)
_PROBES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_RUN = 16  # consecutive rows, which are mostly of one contributor

OnProgress = Callable[[int, int], None]


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
    index, before = _grown_from(folder, len(vectors))
    # Of samples that came later those of earlier events stand behind: they are found, only not left out by a stretch.
    order = np.concatenate([before, len(before) + np.argsort(time_s[len(before) :], kind="stable")])
    if index is None:
        index = _trained(vectors)
    for begin in range(len(before), len(order), _ROWS_A_STEP):
        index.add(np.ascontiguousarray(vectors[order[begin : begin + _ROWS_A_STEP]]))
        if on_progress is not None:
            on_progress(min(begin + _ROWS_A_STEP, len(order)), len(order))
    probes, reached = _enough_probes(index, vectors, recall)
    current = Current(f"{len(order)}-{os.getpid()}", len(order), probes, reached)
    try:
        _faiss.write_index(index, str(folder / f"{current.file}.faiss"))
        np.save(folder / f"{current.file}.order.npy", order.astype(np.int64), allow_pickle=False)
    except (RuntimeError, OSError) as error:
        raise StorageError(f"cannot write an inverted file in {folder}: {error}") from error
    return current


def publish(folder: Path, built: Current, dead: NDArray[np.bool_]) -> None:
    """Take a file into use; to be called with the pool's lock held.

    Args:
        folder: Where it is.
        built: What `build` returned.
        dead: bool [n], rows that were erased since it began.
    """
    before = read_current(folder)
    write_private(folder / CURRENT, json.dumps(asdict(built)).encode())
    erase_dead(folder, dead)
    if before is not None and before.file != built.file:
        for ending in ("faiss", "order.npy"):
            (folder / f"{before.file}.{ending}").unlink(missing_ok=True)  # who has it mapped still has it


def erase_dead(folder: Path, dead: NDArray[np.bool_]) -> None:
    """See that rows marked in ``dead`` are zeros in the current file: a crash may have come between."""
    Opened(folder).erase_dead(dead)


def lists_for(rows: int) -> int:
    """How many lists so many rows are divided into: the power of two nearest to the root."""
    return int(2 ** round(np.log2(max(rows, 1)) / 2))


def _grown_from(folder: Path, rows: int) -> tuple[Any | None, Rows]:
    """The current file's index and order in memory; nothing if its lists have become too few."""
    before = read_current(folder)
    if before is not None:
        index = _faiss.read_index(str(folder / f"{before.file}.faiss"))
        if lists_for(rows) <= 2 * index.nlist:
            return index, np.load(folder / f"{before.file}.order.npy")
    return None, np.zeros(0, np.int64)


def _trained(vectors: Vectors) -> Any:
    dimensions, lists = vectors.shape[1], lists_for(len(vectors))
    index = _faiss.IndexIVFFlat(_faiss.IndexFlatIP(dimensions), dimensions, lists, _faiss.METRIC_INNER_PRODUCT)
    chosen = np.linspace(0, len(vectors) - 1, min(len(vectors), _TRAINED_ON * lists)).astype(np.int64)
    index.train(np.ascontiguousarray(vectors[chosen]))
    return index


def _enough_probes(index: Any, vectors: Vectors, wanted: float) -> tuple[tuple[tuple[int, int], ...], float]:
    """The fewest probes that find enough of what exact search finds, by how many are asked for; and what they find.

    A device's query lies between samples, none of which are its own. So queries are single samples and midpoints of two
    contributors' samples; the kind that is harder counts.
    """
    kinds = _queries(vectors)
    most = min(_JUDGED_NEAREST[-1], len(vectors))
    exact = [_faiss.knn(queries, vectors, most, metric=_faiss.METRIC_INNER_PRODUCT)[0] for queries in kinds]
    chosen, least = [], 1.0
    for count in sorted({min(count, most) for count in _JUDGED_NEAREST}):
        for probes in (*(probes for probes in _PROBES if probes < index.nlist), index.nlist):
            reached = min(_recall(index, *pair, count, probes) for pair in zip(kinds, exact, strict=True))
            if reached >= wanted or probes == index.nlist:
                break
        chosen.append((count, probes))
        least = min(least, reached)
    return tuple(chosen), least


def _queries(vectors: Vectors) -> list[Vectors]:
    begins = np.random.default_rng(1).choice(max(len(vectors) - _RUN, 1), (2, min(_JUDGED_BY, len(vectors))))
    means = np.stack([[vectors[begin : begin + _RUN].mean(axis=0) for begin in some] for some in begins])
    return [np.ascontiguousarray(vectors[begins[0]]), np.ascontiguousarray(means.mean(axis=0))]


def _recall(index: Any, queries: Vectors, exact: Vectors, count: int, probes: int) -> float:
    """By score, not by row: of rows with equal vectors any is as good."""
    scores = index.search(queries, count, params=probing(probes))[0]
    return float((scores >= exact[:, count - 1 : count] - 1e-6).mean())
