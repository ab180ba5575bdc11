"""Lists of coded vectors in one mapped file, as faiss' fast scan reads them.

A vector is four bits a dimension: which of sixteen levels its distance from its list's centre is nearest to. 32 vectors
make a block, in which half bytes lie as one instruction wants them (faiss' `pq4_pack_codes`); a list is its blocks,
then its ids, int64. An id is -1 where a list ends within a block, and where a vector was erased.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError

_faiss: Any = faiss  # its stubs tell of the C++ interface
BLOCK = 32  # vectors
BITS = 4  # a dimension
_NOBODY = -1
# Which vector of a block's first half is at each of 16 bytes; the second half is 16 on, in the upper half bytes.
_PLACES = np.array([0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15])
_BYTE_OF = np.argsort(_PLACES)

Codes = NDArray[np.uint8]
Ids = NDArray[np.int64]


class PackedLists:
    """A file of lists, mapped; all who have it mapped see what one erases.

    Attributes:
        sizes: int64 [lists], vectors in each, erased ones too.
        mapped: The lists as faiss takes them.
    """

    def __init__(self, path: Path, sizes: NDArray[np.int64], code_bytes: int) -> None:
        """Map ``path``, whose lists have ``sizes`` vectors of ``code_bytes`` each.

        Raises:
            StorageError: If it is not there or has another length.
        """
        self._path, self.sizes, self._code_bytes = path, sizes, code_bytes
        self._capacities = _capacities(sizes)
        room = self._capacities * (code_bytes + 8)
        self._offsets = np.concatenate([[0], np.cumsum(room)])
        _check_length(path, int(self._offsets[-1]))
        self.mapped: Any = _faiss.OnDiskInvertedLists()
        self.mapped.nlist, self.mapped.code_size = len(sizes), code_bytes
        self.mapped.filename, self.mapped.read_only = str(path), True
        self.mapped.prefetch_nthread = 0  # threads for each query would cost more than they save
        self.mapped.lists.resize(len(sizes))
        capacities = self._capacities.astype(np.uint64)
        self.mapped.set_all_lists_sizes(_faiss.swig_ptr(capacities))
        for number, size in enumerate(sizes.tolist()):
            self.mapped.lists.at(number).size = size
        self.mapped.totsize = max(int(self._offsets[-1]), 1)
        self.mapped.do_mmap()

    def ids(self, number: int) -> Ids:
        """The ids of one list, up to the end of its last block."""
        return self._list(self._file("r"), number)[1]

    def count(self, marked: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of the ids that are marked each list has, [lists]."""
        file = self._file("r")
        held = (self._list(file, number)[1][:size] for number, size in enumerate(self.sizes.tolist()))
        return np.array([np.count_nonzero(marked[ids] & (ids != _NOBODY)) for ids in held], np.int64)

    def codes(self, number: int) -> Codes:
        """The codes of one list, up to the end of its last block."""
        return unpacked(self._list(self._file("r"), number)[0])

    def contents(self) -> Iterator[tuple[int, Ids, Codes]]:
        """Each list's number, the ids of what is not erased, and its codes [n, code bytes]."""
        file = self._file("r")
        for number, size in enumerate(self.sizes.tolist()):
            blocks, ids = self._list(file, number)
            live = np.flatnonzero(ids[:size] != _NOBODY)
            yield number, ids[live], unpacked(blocks)[live]

    def erase(self, lists: NDArray[np.int64], marked: NDArray[np.bool_]) -> int:
        """Overwrite what ``lists`` have of the ids that are marked, in place; how many. On disk when this returns.

        Raises:
            StorageError: If the disk fails.
        """
        try:
            file, found = self._file("r+"), 0
            for number in lists.tolist():
                blocks, held = self._list(file, number)
                at = np.flatnonzero((held != _NOBODY) & marked[held])
                _clear(blocks, at)
                held[at] = _NOBODY
                found += len(at)
            file.flush()
        except OSError as error:
            raise StorageError(f"cannot erase in {self._path}: {error.strerror}") from error
        return found

    def _file(self, mode: Any) -> np.memmap[Any, np.dtype[np.uint8]]:
        return np.memmap(self._path, np.uint8, mode)

    def _list(self, file: NDArray[np.uint8], number: int) -> tuple[Codes, Ids]:
        """Blocks [blocks, code bytes, 32] and ids of one list, as views."""
        begin, capacity = int(self._offsets[number]), int(self._capacities[number])
        end = begin + capacity * self._code_bytes
        blocks = file[begin:end].reshape(capacity // BLOCK, self._code_bytes, BLOCK)
        return blocks, file[end : end + 8 * capacity].view(np.int64)


def write(path: Path, lists: NDArray[np.int32], codes: Codes, count: int) -> NDArray[np.int64]:
    """Write vectors into ``count`` lists; an id is a vector's place in ``codes``.

    Args:
        path: The file, made anew.
        lists: int32 [n], which list each vector is in; -1 for none.
        codes: uint8 [n, code bytes].
        count: Lists.

    Returns:
        Sizes of the lists.

    Raises:
        StorageError: If the disk fails.
    """
    by_list = np.argsort(lists, kind="stable")[np.count_nonzero(lists < 0) :]
    sizes = np.bincount(lists[by_list], minlength=count)
    try:
        with path.open("xb") as file:
            for mine in np.split(by_list, np.cumsum(sizes)[:-1]):
                file.write(packed(codes[mine]).tobytes())
                ids = np.full(-(-len(mine) // BLOCK) * BLOCK, _NOBODY, np.int64)
                ids[: len(mine)] = mine
                file.write(ids.tobytes())
            if not len(by_list):
                file.write(b"\0")  # an empty file cannot be mapped
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    return sizes


def packed(codes: Codes) -> Codes:
    """Blocks of codes [n, bytes]: uint8 [blocks, bytes, 32]; beyond the end zeros."""
    count, width = codes.shape
    blocks = -(-count // BLOCK)
    padded = np.zeros((blocks * BLOCK, width), np.uint8)
    padded[:count] = codes
    columns = padded.reshape(blocks, BLOCK, width).transpose(0, 2, 1)
    halves = [columns & 15, columns >> 4]  # the dimension that comes first is in the lower half byte
    return np.concatenate([half[..., _PLACES] | half[..., _PLACES + 16] << 4 for half in halves], axis=-1)


def unpacked(blocks: Codes) -> Codes:
    """The codes of blocks [blocks, bytes, 32]: uint8 [32 blocks, bytes]."""
    low, high = (np.concatenate([half & 15, half >> 4], axis=-1) for half in _by_vector(blocks))
    return np.ascontiguousarray((low | high << 4).transpose(0, 2, 1)).reshape(-1, blocks.shape[1])


def _by_vector(blocks: Codes) -> list[Codes]:
    """The two halves of each block's rows, bytes in the order of vectors."""
    return [blocks[..., :16][..., _BYTE_OF], blocks[..., 16:][..., _BYTE_OF]]


def _clear(blocks: Codes, at: NDArray[np.int64]) -> None:
    """Zero the codes of the vectors at places of a list, in place."""
    for place in at.tolist():
        block, within = divmod(place, BLOCK)
        byte, keep = int(_BYTE_OF[within % 16]), np.uint8(0xF0 if within < 16 else 0x0F)
        blocks[block, :, byte] &= keep
        blocks[block, :, byte + 16] &= keep


def _capacities(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return -(-sizes // BLOCK) * BLOCK


def _check_length(path: Path, length: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if found != max(length, 1):
        raise StorageError(f"cannot read {path}: {found} bytes where there should be {length}")
