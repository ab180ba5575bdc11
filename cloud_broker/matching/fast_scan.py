"""faiss' fast scan: an inverted file whose codes of four bits a dimension are looked up in tables in registers."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.codebooks import Floats
from cloud_broker.matching.packed_lists import BITS, BLOCK

_faiss: Any = faiss  # its stubs tell of the C++ interface


def fast_scan(width: int, lists: int, levels: Floats) -> Any:
    """Faiss' index of vectors [n, width] in codes of four bits a dimension, without its lists; told where to look."""
    quantizer = _faiss.IndexFlatL2(width)
    index = _faiss.IndexIVFPQFastScan(quantizer, width, lists, width, BITS, _faiss.METRIC_INNER_PRODUCT, BLOCK)
    index.by_residual = True
    _faiss.copy_array_to_vector(levels, index.pq.centroids)
    index.is_trained = True
    return index


def scan(
    index: Any, queries: Floats, lists: NDArray[np.int64], near: Floats, count: int, *, selector: Any = None
) -> NDArray[np.int64]:
    """The ids of the ``count`` nearest by their codes, [m, count], the best first; -1 where there are fewer.

    Args:
        index: Of `fast_scan`, with lists.
        queries: float32 [m, d].
        lists: int64 [m, n], where to look.
        near: float32 [m, n], how near their centres are.
        count: How many.
        selector: Which ids may be found. Without one those that were erased, too, as -1, in place of others: all have
            the code 0, which is near to some queries.
    """
    parameters = _faiss.SearchParametersIVF(nprobe=lists.shape[1], sel=selector)
    scores = np.empty((len(queries), count), np.float32)
    ids = np.empty((len(queries), count), np.int64)
    given = [_faiss.swig_ptr(array) for array in (queries, lists, near, scores, ids)]
    # The method in Python takes no parameters.
    index.search_preassigned_c(len(queries), given[0], count, *given[1:], False, parameters)
    return ids
