"""What a device says of items, where its owner allows matching by agreement: which ones it has, and which it liked.

Little-endian uint32, one an item, twice the item's id and 1 more where it was liked; ascending, at most 1 KB. This
discloses items to the cloud, which a profile does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.errors import MalformedMessageError, OversizeError
from protocol.topics import MAX_PROFILE_BYTES

_FORM = np.dtype("<u4")
MAX_OPINIONS = MAX_PROFILE_BYTES // _FORM.itemsize


def pack_opinions(items: NDArray[np.int32], labels: NDArray[np.float32], most: int = MAX_OPINIONS) -> bytes:
    """The latest opinion of each of the latest items.

    Args:
        items: int32 [n], of samples in the order of time, the oldest first; 0, which is no item, is left out.
        labels: float32 [n], 1 where the item was liked.
        most: Of so many items at most, and never of more than `MAX_OPINIONS`.
    """
    latest = np.unique(items[::-1], return_index=True)[1]
    latest = np.sort(latest[items[::-1][latest] > 0])[: min(most, MAX_OPINIONS)]
    codes = items[::-1][latest].astype(np.uint32) * 2 + (labels[::-1][latest] > 0)
    return np.sort(codes).astype(_FORM).tobytes()


def unpack_opinions(packed: bytes) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Inverse of `pack_opinions`: items in ascending order, int32 [n], and whether each was liked, bool [n].

    Raises:
        OversizeError: If it is larger than 1 KB.
        MalformedMessageError: If it is not a list of different items in ascending order.
    """
    if len(packed) > MAX_PROFILE_BYTES:
        raise OversizeError("opinions", len(packed), MAX_PROFILE_BYTES)
    if len(packed) % _FORM.itemsize:
        raise MalformedMessageError(f"opinions: {len(packed)} bytes are no list of 4-byte numbers")
    codes = np.frombuffer(packed, _FORM)
    items = (codes >> 1).astype(np.int32)
    if (items[1:] <= items[:-1]).any() or (items[:1] == 0).any():
        raise MalformedMessageError("opinions: different items in ascending order are required, from 1 on")
    return items, (codes & 1).astype(np.bool_)
